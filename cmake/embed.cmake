# Files inside the program, through the assembler's .incbin, 64-byte aligned and followed by a NUL
# that no length counts.  When such a file changes, CMake runs again and its size is taken anew.
#     vlm_embed_begin(TEXT)              TEXT is the head of an assembler file
#     vlm_embed_bytes(TEXT SYMBOL PATH)  and the bytes of PATH at SYMBOL; SYMBOL_size is set
#     vlm_embed_end(TARGET NAME TEXT PATH...)  NAME.S, made of TEXT, goes into TARGET
function(vlm_embed_begin text)
    set(${text} "#if defined(__CET__)\n#include <cet.h>\n#endif\n    .section .rodata,\"a\",%progbits\n"
        PARENT_SCOPE)
endfunction()

function(vlm_embed_bytes text symbol path)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
    file(SIZE ${path} size)
    get_filename_component(name ${path} NAME)
    string(APPEND ${text} "    .balign 64\n    .globl ${symbol}\n    .hidden ${symbol}\n"
        "    .type ${symbol}, %object\n    .size ${symbol}, ${size}\n"
        "${symbol}:\n    .incbin \"${path}\"\n    .if . - ${symbol} - ${size}\n"
        "    .error \"${name} changed while it was embedded; build again\"\n    .endif\n"
        "    .byte 0\n")
    set(${text} "${${text}}" PARENT_SCOPE)
    set(${symbol}_size ${size} PARENT_SCOPE)
endfunction()

function(vlm_embed_end target name text)
    # The note keeps the program's stack from becoming executable.
    string(APPEND text "    .section .note.GNU-stack,\"\",%progbits\n")
    file(CONFIGURE OUTPUT ${name}.S CONTENT "${text}" @ONLY)
    set_source_files_properties(${CMAKE_CURRENT_BINARY_DIR}/${name}.S PROPERTIES
        OBJECT_DEPENDS "${ARGN}")
    target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${name}.S)
endfunction()

# vlm_embed_file(TARGET SYMBOL HEADER PATH): the file as `const vlm_bytes SYMBOL`, which HEADER declares.
function(vlm_embed_file target symbol header path)
    vlm_embed_begin(bytes)
    vlm_embed_bytes(bytes ${symbol}_data ${path})
    vlm_embed_end(${target} ${symbol}_data "${bytes}" ${path})
    file(CONFIGURE OUTPUT ${symbol}.c @ONLY CONTENT
"#include \"${header}\"

extern const char ${symbol}_data[];
const vlm_bytes ${symbol} = {.ptr = ${symbol}_data, .len = ${${symbol}_data_size}};
")
    target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c)
endfunction()
