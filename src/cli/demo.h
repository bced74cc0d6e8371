/* demo.h - the small model that ships inside the program: the files of models/demo, as they are.
 * cmake/demo.cmake makes the definitions.  Each file's bytes are aligned to 64 and followed by a
 * NUL that its length does not count.
 * Not: a general model; what it can do is written in models/demo/README.md.
 * Threads: read-only data. */
#ifndef VLM_CLI_DEMO_H
#define VLM_CLI_DEMO_H

#include <stddef.h>

#include "model/folder.h"

extern const vlm_builtin_file vlm_demo_files[];
extern const size_t vlm_demo_n_files;

#endif
