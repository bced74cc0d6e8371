# The library vlm_proto: C for the messages of proto/, made by protoc-c.  A string ends at a NUL in
# protobuf-c's C, while a client's text may hold one: every `string` is compiled as `bytes`, which
# is the same on the wire.  Who reads such a field checks that it is UTF-8.  protoc-c 1.4 knows no
# `optional` of proto3; a oneof of one field is the same on the wire.
find_program(VLM_PROTOC_C protoc-c REQUIRED)
set(VLM_PROTO_DIR ${PROJECT_BINARY_DIR}/proto)

function(vlm_proto_file name)
    set(source ${PROJECT_SOURCE_DIR}/proto/${name}.proto)
    set(bytes ${VLM_PROTO_DIR}/bytes/${name}.proto)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(READ ${source} text)
    string(REGEX REPLACE "([ \n])string " "\\1bytes " text "${text}")
    string(REGEX REPLACE "optional ([a-z0-9]+) ([a-z_]+) = ([0-9]+);" "oneof opt_\\2 { \\1 \\2 = \\3; }"
        text "${text}")
    file(CONFIGURE OUTPUT ${bytes} CONTENT "${text}" @ONLY)
    add_custom_command(
        OUTPUT ${VLM_PROTO_DIR}/${name}.pb-c.c ${VLM_PROTO_DIR}/${name}.pb-c.h
        COMMAND ${VLM_PROTOC_C} -I ${VLM_PROTO_DIR}/bytes --c_out=${VLM_PROTO_DIR} ${bytes}
        DEPENDS ${bytes} VERBATIM)
    set(VLM_PROTO_SOURCES ${VLM_PROTO_SOURCES} ${VLM_PROTO_DIR}/${name}.pb-c.c PARENT_SCOPE)
endfunction()

set(VLM_PROTO_SOURCES "")
vlm_proto_file(vlm/v1/worker)
vlm_proto_file(grpc/health/v1/health)
add_library(vlm_proto STATIC ${VLM_PROTO_SOURCES})
target_include_directories(vlm_proto SYSTEM PUBLIC ${VLM_PROTO_DIR})
target_link_libraries(vlm_proto PUBLIC vlm::protobuf_c)
target_compile_options(vlm_proto PRIVATE -ffunction-sections -fdata-sections)
if(VLM_SANITIZE)
    target_compile_options(vlm_proto PRIVATE -fsanitize=${VLM_SANITIZE})
endif()
