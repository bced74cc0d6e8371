# What is installed beside the program and how packages are made of it.  The target `share` makes the
# manual and the completions from the program's own tables.  Components: `program` is for all,
# `local` for `make install` and the release tarball, `debian` for the package.
set(share ${PROJECT_BINARY_DIR}/share)
file(MAKE_DIRECTORY ${share})

add_executable(make_man ${PROJECT_SOURCE_DIR}/tools/make_man.c)
target_link_libraries(make_man PRIVATE vlm_cli)
add_custom_command(OUTPUT ${share}/vlmd.1 ${share}/vlmd.1.gz
    COMMAND make_man ${PROJECT_SOURCE_DIR}/docs/vlmd.1.in > ${share}/vlmd.1
    COMMAND gzip -9nc ${share}/vlmd.1 > ${share}/vlmd.1.gz
    DEPENDS make_man ${PROJECT_SOURCE_DIR}/docs/vlmd.1.in VERBATIM)
set(share_files ${share}/vlmd.1.gz)
foreach(shell bash zsh fish)
    add_custom_command(OUTPUT ${share}/completion.${shell}
        COMMAND vlmd completion ${shell} > ${share}/completion.${shell} DEPENDS vlmd VERBATIM)
    list(APPEND share_files ${share}/completion.${shell})
endforeach()
add_custom_command(OUTPUT ${share}/third-party.gz
    COMMAND ${PROJECT_SOURCE_DIR}/tools/licenses.sh ${share}/third-party.gz
    DEPENDS ${PROJECT_SOURCE_DIR}/tools/licenses.sh VERBATIM)
add_custom_command(OUTPUT ${share}/changelog.gz
    COMMAND gzip -9nc ${PROJECT_SOURCE_DIR}/deploy/debian/changelog > ${share}/changelog.gz
    DEPENDS ${PROJECT_SOURCE_DIR}/deploy/debian/changelog VERBATIM)
list(APPEND share_files ${share}/third-party.gz ${share}/changelog.gz)
add_custom_target(share ALL DEPENDS ${share_files})

set(doc share/doc/vlmd)
install(TARGETS vlmd RUNTIME DESTINATION bin COMPONENT program)
install(FILES ${share}/vlmd.1.gz DESTINATION share/man/man1 COMPONENT program)
install(FILES ${share}/completion.bash DESTINATION share/bash-completion/completions RENAME vlmd COMPONENT program)
# Where zsh looks differs between /usr, which packages own, and everywhere else.
install(FILES ${share}/completion.zsh DESTINATION share/zsh/site-functions RENAME _vlmd COMPONENT local)
install(FILES ${share}/completion.zsh DESTINATION share/zsh/vendor-completions RENAME _vlmd COMPONENT debian)
install(FILES ${share}/completion.fish DESTINATION share/fish/vendor_completions.d RENAME vlmd.fish COMPONENT program)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/docs/operations.md ${share}/third-party.gz
    DESTINATION ${doc} COMPONENT program)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/debian/copyright DESTINATION ${doc} COMPONENT program)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/demo/examples DESTINATION ${doc} COMPONENT program)

# The unit of deploy/ is for a program in /usr/local.
file(READ ${PROJECT_SOURCE_DIR}/deploy/vlmd.service unit)
string(REPLACE /usr/local/bin/vlmd /usr/bin/vlmd unit "${unit}")
file(CONFIGURE OUTPUT ${share}/vlmd.service CONTENT "${unit}" @ONLY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/deploy/vlmd.service)
install(FILES ${share}/vlmd.service DESTINATION /lib/systemd/system COMPONENT debian)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/vlmd.env DESTINATION /etc/vlmd COMPONENT debian)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/debian/vlmd.conf DESTINATION /usr/lib/sysusers.d COMPONENT debian)
install(FILES ${share}/changelog.gz DESTINATION /usr/${doc} COMPONENT debian)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/debian/lintian-overrides DESTINATION /usr/share/lintian/overrides
    RENAME vlmd COMPONENT debian)

# cpack must not build the tests first; `make package` has built what it needs.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "vlmd maintainers <maintainers@vlmd.example>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "answers questions about pictures, OpenAI's API on your own CPU")
set(CPACK_PACKAGE_DESCRIPTION
"vlmd answers questions about pictures with LLaVA-class vision-language
models, on the terminal or as a server with OpenAI's API.  It reads Hugging
Face folders as they were downloaded and gives what Transformers gives in
float32; a small demonstration model is inside.")
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL program debian)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# libcurl is opened when something is fetched, so no tool sees it.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libcurl4, ca-certificates")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/deploy/debian/conffiles
    ${PROJECT_SOURCE_DIR}/deploy/debian/postinst ${PROJECT_SOURCE_DIR}/deploy/debian/prerm
    ${PROJECT_SOURCE_DIR}/deploy/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
