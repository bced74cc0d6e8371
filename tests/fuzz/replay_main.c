/* replay_main.c - runs a fuzz target over every file named, or in every folder named, so that a
 * committed corpus is a regression test under any compiler and sanitizer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    struct stat st;
    if (fstat(fileno(file), &st) != 0) abort();
    const size_t len = (size_t)st.st_size;
    /* Exactly len bytes, so that a sanitizer sees a read beyond the end. */
    uint8_t *data = malloc(len);
    if (len > 0 && data == NULL) abort();
    const size_t n = len > 0 ? fread(data, 1, len, file) : 0;
    (void)fclose(file);
    if (n == len) (void)LLVMFuzzerTestOneInput(data, len);
    free(data);
    return n == len ? 0 : 1;
}

static int replay_folder(const char *path, unsigned long *n_files)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return 1;
    }
    int failed = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        char name[4096];
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        failed |= replay_file(name);
        ++*n_files;
    }
    (void)closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    unsigned long n_files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
            failed |= replay_folder(argv[i], &n_files);
        } else {
            failed |= replay_file(argv[i]);
            n_files++;
        }
    }
    printf("%lu files replayed\n", n_files);
    return failed || n_files == 0;
}
