#include "ring/cgroup.h"

#include <stdio.h>
#include <string.h>

/* The path in a line of /proc/self/cgroup, "4:cpu,memory:/path" or "0::/path", if it is of this controller; else
 * NULL. */
static const char *group_in(char *line, const char *controller)
{
    char *controllers = strchr(line, ':');
    char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL) {
        return NULL;
    }
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (controller == NULL) {
        return strcmp(line, "0:") == 0 ? path : NULL;
    }
    char *rest = controllers + 1;
    const char *name;
    while ((name = strsep(&rest, ",")) != NULL) {
        if (strcmp(name, controller) == 0) {
            return path;
        }
    }
    return NULL;
}

void cgroup_find(const char *root, const char *controller, char *out, size_t out_bytes)
{
    char line[1024];
    snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
    FILE *file = fopen(line, "re");
    *out = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *group = group_in(line, controller);
        if (group != NULL) {
            snprintf(out, out_bytes, "%s", group);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}
