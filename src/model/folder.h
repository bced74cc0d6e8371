/* folder.h - the files of one model: a directory in Hugging Face layout, or a set built into the
 * program.
 * Not: what the files mean, nor hub ids (hub/).
 * Ownership: contents and parsed JSON belong to the folder until close.
 * Threads: one at a time; what was handed out may be read by any. */
#ifndef VLM_MODEL_FOLDER_H
#define VLM_MODEL_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"

typedef struct vlm_folder vlm_folder;

typedef struct vlm_builtin_file {
    const char *name;
    const void *data;
    size_t len; /* bytes */
} vlm_builtin_file;

/* NOT_FOUND when there is no such directory, INVALID_ARGUMENT when it is none. */
VLM_MUST_USE vlm_status vlm_folder_open(const char *path, vlm_folder **out, vlm_error *err);
/* files must outlive the folder. */
VLM_MUST_USE vlm_status vlm_folder_open_builtin(const vlm_builtin_file *files, size_t n_files,
                                                vlm_folder **out, vlm_error *err);
void vlm_folder_close(vlm_folder *f); /* NULL is legal */

/* Names are those of files right in the folder; one with a slash, or "." or "..", is never there.
 */
bool vlm_folder_has(const vlm_folder *f, const char *name);

/* The file's contents, mapped.  NOT_FOUND when absent; every status of vlm_map_open. */
VLM_MUST_USE vlm_status vlm_folder_bytes(vlm_folder *f, const char *name, vlm_bytes *out,
                                         vlm_error *err);

/* Append what tells one state of a file from another without reading it: device, inode, size, time
 * of change.  NOT_FOUND for files built into the program. */
VLM_MUST_USE vlm_status vlm_folder_identity(const vlm_folder *f, const char *name, vlm_buf *out,
                                            vlm_error *err);

/* The root of a JSON file, parsed once; an object.  Error texts begin with the file's name. */
VLM_MUST_USE vlm_status vlm_folder_json(vlm_folder *f, const char *name, const vlm_json **root,
                                        vlm_error *err);

/* The names of the files that end in suffix, sorted.  names is freed with vlm_folder_names_free. */
VLM_MUST_USE vlm_status vlm_folder_names(const vlm_folder *f, const char *suffix, char ***names,
                                         size_t *n_names, vlm_error *err);
void vlm_folder_names_free(char **names, size_t n_names);

#endif
