# vlm_embed_folder(TARGET FOLDER): what src/cli/demo.h declares, made from the files of a Hugging
# Face folder that a program needs at run time.  The bytes go through the assembler's .incbin;
# when a file changes, CMake runs again and the sizes and bytes are made anew.
set(VLM_EMBED_NAMES
    config.json generation_config.json preprocessor_config.json processor_config.json
    tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json
    added_tokens.json chat_template.json chat_template.jinja model.safetensors)

function(vlm_embed_folder target folder)
    set(bytes "#if defined(__CET__)\n#include <cet.h>\n#endif\n    .section .rodata,\"a\",%progbits\n")
    set(externs "")
    set(table "")
    set(paths "")
    set(n 0)
    file(GLOB present CONFIGURE_DEPENDS ${folder}/*)
    foreach(name ${VLM_EMBED_NAMES})
        set(path ${folder}/${name})
        if(NOT path IN_LIST present)
            continue()
        endif()
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
        file(SIZE ${path} size)
        set(symbol vlm_demo_file_${n})
        string(APPEND bytes "    .balign 64\n    .globl ${symbol}\n    .hidden ${symbol}\n"
            "    .type ${symbol}, %object\n    .size ${symbol}, ${size}\n"
            "${symbol}:\n    .incbin \"${path}\"\n    .if . - ${symbol} - ${size}\n"
            "    .error \"${name} changed while it was embedded; build again\"\n    .endif\n"
            "    .byte 0\n")
        string(APPEND externs "extern const unsigned char ${symbol}[];\n")
        string(APPEND table "    {.name = \"${name}\", .data = ${symbol}, .len = ${size}},\n")
        list(APPEND paths ${path})
        math(EXPR n "${n} + 1")
    endforeach()
    string(APPEND bytes "    .section .note.GNU-stack,\"\",%progbits\n")
    file(CONFIGURE OUTPUT demo_files.S CONTENT "${bytes}" @ONLY)
    file(CONFIGURE OUTPUT demo_files.c @ONLY CONTENT
"#include \"cli/demo.h\"

${externs}
/* A last row of zeros, so that the array is never empty. */
const vlm_builtin_file vlm_demo_files[] = {
${table}    {0},
};
const size_t vlm_demo_n_files = ${n};
")
    set_source_files_properties(${CMAKE_CURRENT_BINARY_DIR}/demo_files.S PROPERTIES
        OBJECT_DEPENDS "${paths}")
    target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/demo_files.S
        ${CMAKE_CURRENT_BINARY_DIR}/demo_files.c)
endfunction()
