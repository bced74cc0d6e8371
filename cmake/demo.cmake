# vlm_embed_folder(TARGET FOLDER): what src/cli/demo.h declares, made from the files of a Hugging
# Face folder that a program needs at run time (embed.cmake).
set(VLM_EMBED_NAMES
    config.json generation_config.json preprocessor_config.json processor_config.json
    tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json
    added_tokens.json chat_template.json chat_template.jinja model.safetensors)

function(vlm_embed_folder target folder)
    vlm_embed_begin(bytes)
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
        set(symbol vlm_demo_file_${n})
        vlm_embed_bytes(bytes ${symbol} ${path})
        string(APPEND externs "extern const unsigned char ${symbol}[];\n")
        string(APPEND table
            "    {.name = \"${name}\", .data = ${symbol}, .len = ${${symbol}_size}},\n")
        list(APPEND paths ${path})
        math(EXPR n "${n} + 1")
    endforeach()
    vlm_embed_end(${target} demo_files "${bytes}" ${paths})
    file(CONFIGURE OUTPUT demo_files.c @ONLY CONTENT
"#include \"cli/demo.h\"

${externs}
/* A last row of zeros, so that the array is never empty. */
const vlm_builtin_file vlm_demo_files[] = {
${table}    {0},
};
const size_t vlm_demo_n_files = ${n};
")
    target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/demo_files.c)
endfunction()
