#include "server/machine_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring/facts.h"
#include "server/config.h"
#include "server/machine_print.h"

/* What is taken of a configuration when none is given: everything it leaves open. */
#define NO_FILE            \
    "listeners:\n"         \
    "  - address: :8080\n" \
    "routes:\n"            \
    "  - path_prefix: /\n" \
    "    respond: {}\n"

struct arguments {
    const char *path; /* of the configuration; NULL: none */
    const char *root;
    bool is_json;
    bool is_strict;
};

static const char usage_text[] =
    "usage: sluice check --machine [FILE] [--json] [--strict] [--root DIR]\n"
    "  FILE        the configuration that would be served; without it, one that leaves everything open\n"
    "  --json      for programs\n"
    "  --strict    exit 1 also when there are warnings\n"
    "  --root DIR  another machine: DIR has a copy of its /proc and /sys\n";

static bool parse(struct arguments *arguments, int count, char **texts)
{
    *arguments = (struct arguments){.root = ""};
    for (int i = 0; i < count; i++) {
        const char *text = texts[i];
        if (strcmp(text, "--machine") == 0) {
            continue;
        }
        if (strcmp(text, "--json") == 0) {
            arguments->is_json = true;
        } else if (strcmp(text, "--strict") == 0) {
            arguments->is_strict = true;
        } else if (strcmp(text, "--root") == 0 && i + 1 < count && texts[i + 1][0] != '\0') {
            arguments->root = strcmp(texts[i + 1], "/") == 0 ? "" : texts[i + 1];
            i++;
        } else if (text[0] != '-' && arguments->path == NULL) {
            arguments->path = text;
        } else {
            fprintf(stderr, "sluice check: unknown argument %s\n%s", text, usage_text);
            return false;
        }
    }
    return true;
}

/* A folder that has nothing of a machine would pass for one in which all is well. */
static bool is_machine(const char *root)
{
    char text[FACT_TEXT_BYTES];
    if (root[0] == '\0' || fact_text(text, "%s/proc/meminfo", root) || fact_text(text, "%s/proc/self/status", root)) {
        return true;
    }
    fprintf(stderr,
            "sluice check: --root %s: there is no proc/meminfo in it that can be read; it is to have a copy of a "
            "machine's /proc and /sys\n",
            root);
    return false;
}

static int print(const struct arguments *arguments, const struct config *config)
{
    struct machine *machine = malloc(sizeof(*machine));
    struct machine_plan *plan = malloc(sizeof(*plan));
    enum result result = machine == NULL || plan == NULL ? RESULT_NO_MEMORY : RESULT_OK;
    int code = 1;
    if (result == RESULT_OK) {
        machine_read(arguments->root, machine);
        if (arguments->root[0] == '\0') {
            machine_try_io_uring(machine);
        }
        machine_plan_make(machine, config, plan);
        code = machine_plan_count(plan, arguments->is_strict ? MACHINE_WARNING : MACHINE_ERROR) > 0 ? 1 : 0;
        if (arguments->is_json) {
            result = machine_print_json(stdout, machine, plan);
        } else {
            machine_print_text(stdout, machine, plan);
        }
    }
    if (result != RESULT_OK) {
        fprintf(stderr, "sluice check: %s\n", result_name(result));
        code = 1;
    }
    free(machine);
    free(plan);
    return code;
}

int machine_check_run(int argument_count, char **texts)
{
    struct arguments arguments;
    if (!parse(&arguments, argument_count, texts)) {
        return 2;
    }
    if (!is_machine(arguments.root)) {
        return 2;
    }
    struct config *config;
    enum result result = arguments.path == NULL ? config_parse("no file", BYTES(NO_FILE), stderr, &config)
                                                : config_load(arguments.path, stderr, &config);
    if (result != RESULT_OK) {
        return 1;
    }
    int code = print(&arguments, config);
    config_destroy(config);
    return code;
}
