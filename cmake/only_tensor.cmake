# VLM_ONLY_TENSOR: base, but for what needs OpenSSL, and tensor with their tests; cmocka is replaced
# by tests/cross.  For a cross build, where the libraries are those of another processor.
find_package(Threads REQUIRED)
vlm_room(base LINKS Threads::Threads m WITHOUT sha256)
vlm_room(tensor LINKS vlm_base)

set(VLM_CMOCKA_INCLUDE ${PROJECT_SOURCE_DIR}/tests/cross)
set(VLM_CMOCKA_LIB "")
enable_testing()
add_subdirectory(tests)
