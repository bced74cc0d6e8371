# vlm_room(NAME LINKS ... [WITHOUT ...]): the static library vlm_NAME of every .c under src/NAME, but
# for the files named (without .c).
# A kernel file's suffix names its instruction set; only that file is compiled for it.
function(vlm_room name)
    cmake_parse_arguments(ARG "" "" "LINKS;WITHOUT" ${ARGN})
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.c)
    foreach(left_out ${ARG_WITHOUT})
        list(FILTER sources EXCLUDE REGEX "/${left_out}\\.c$")
    endforeach()
    if(NOT sources)
        file(WRITE ${PROJECT_BINARY_DIR}/empty_${name}.c "typedef int vlm_room_is_empty;\n")
        set(sources ${PROJECT_BINARY_DIR}/empty_${name}.c)
    endif()
    add_library(vlm_${name} STATIC ${sources})
    target_link_libraries(vlm_${name} PUBLIC vlm_flags ${ARG_LINKS})
    foreach(source ${sources})
        # _neon.c needs no flags: every 64-bit ARM has it.
        if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
            if(source MATCHES "_dotprod\\.c$")
                set_source_files_properties(${source} PROPERTIES
                    COMPILE_OPTIONS "-march=armv8.2-a+dotprod")
            elseif(source MATCHES "_i8mm\\.c$")
                set_source_files_properties(${source} PROPERTIES
                    COMPILE_OPTIONS "-march=armv8.2-a+dotprod+i8mm")
            endif()
        endif()
        # No fuzz target calls kernels, and clang 14 takes minutes over each with checks in it.
        if(VLM_FUZZ AND source MATCHES "/tensor/cpu/.*_avx(2|512(vnni|bf16)?)\\.c$")
            set(unchecked "-fno-sanitize=all")
        else()
            set(unchecked "")
        endif()
        # Elsewhere the file is empty, and the compiler knows no such flags.
        if(source MATCHES "_avx2\\.c$" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
            set_source_files_properties(${source} PROPERTIES
                COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;${unchecked}")
        elseif(source MATCHES "_avx512(vnni|bf16)?\\.c$" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
            set(flags "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq")
            if(source MATCHES "_avx512vnni\\.c$")
                list(APPEND flags -mavx512vnni)
            elseif(source MATCHES "_avx512bf16\\.c$")
                list(APPEND flags -mavx512vnni -mavx512bf16)
            endif()
            list(APPEND flags ${unchecked})
            set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${flags}")
            # gcc's PR 110027: frames that outlive their function are aligned to 32 bytes alone,
            # and a 64-byte vector in one is a crash.
            if(VLM_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
                set_property(SOURCE ${source} APPEND PROPERTY
                    COMPILE_OPTIONS "--param=asan-use-after-return=0")
            endif()
        endif()
    endforeach()
endfunction()
