# Compiler and linker flags of every target.  -ffast-math is never used: NaN and the order of
# additions are part of a kernel's contract; -ffp-contract=off makes the plain C kernels mean the
# same under every compiler.
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

add_library(vlm_flags INTERFACE)
target_include_directories(vlm_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_compile_definitions(vlm_flags INTERFACE _GNU_SOURCE VLM_VERSION="${PROJECT_VERSION}")
target_compile_options(vlm_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wdouble-promotion
    -Wstrict-prototypes -Wmissing-prototypes -Werror -fno-math-errno -ffp-contract=off
    -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_options(vlm_flags INTERFACE -fcf-protection)
endif()
target_link_options(vlm_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections)
target_compile_options(vlm_flags INTERFACE -ffunction-sections -fdata-sections)

if(VLM_SANITIZE)
    # Checks that cost time, and the guard of base/noalloc.h, which needs a sanitizer's allocator.
    target_compile_definitions(vlm_flags INTERFACE VLM_DEBUG)
    target_compile_options(vlm_flags INTERFACE
        -fsanitize=${VLM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(vlm_flags INTERFACE -fsanitize=${VLM_SANITIZE})
else()
    target_compile_options(vlm_flags INTERFACE
        $<$<AND:$<COMPILE_LANGUAGE:C>,$<CONFIG:Release>>:-D_FORTIFY_SOURCE=3>)
endif()
if(VLM_FUZZ)
    target_compile_options(vlm_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
