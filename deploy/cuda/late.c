// Finds what late.S asks for. What is not there ends the program, as the system's loader does when it binds late.
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((visibility("hidden"))) void *late_find(const char *library, const char *name) {
    void *found = NULL;
    void *opened = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (opened)
        found = dlsym(opened, name);
    if (!found) {
        const char *reason = dlerror();
        fprintf(stderr, "%s of %s is needed for CUDA: %s\n", name, library, reason ? reason : "not found");
        _exit(127);
    }
    return found;
}
