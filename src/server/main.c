/* sluice: serve FILE, check FILE, demo. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/config.h"
#include "server/demo.h"
#include "server/machine_check.h"
#include "server/server.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* Memory that a burst has used goes back within a second: resident stays close to live (jemalloc reads this). */
const char *malloc_conf = "background_thread:false,metadata_thp:auto,dirty_decay_ms:1000,muzzy_decay_ms:0";
#endif

static const char usage_text[] =
    "sluice " SLUICE_VERSION ": an API gateway for self-hosted inference servers and ordinary HTTP services\n"
    "\n"
    "usage: sluice serve FILE    run with the configuration in FILE\n"
    "       sluice check FILE    say everything that is wrong with FILE, with lines\n"
    "       sluice check --machine [FILE] [--json] [--strict] [--root DIR]\n"
    "                            say what it makes of this machine, why, and what about it will hurt\n"
    "       sluice demo          run in front of a simulated model on 127.0.0.1:8080\n"
    "       sluice reference     print docs/configuration.md, made from the table of keys\n"
    "       sluice --version     print the version\n"
    "\n"
    "SIGTERM or Ctrl-C drains: requests in flight are finished first. A second one does not wait.\n";

static int serve(const char *path)
{
    struct config *config;
    if (config_load(path, stderr, &config) != RESULT_OK) {
        return 1;
    }
    log_level_set((enum log_level)config->log_level);
    int code = server_run(config, NULL, NULL);
    config_destroy(config);
    return code;
}

static int check(const char *path)
{
    struct config *config;
    if (config_load(path, stderr, &config) != RESULT_OK) {
        return 1;
    }
    printf("%s: good: %u listener%s, %u upstream%s, %u route%s\n", path, config->listener_count,
           config->listener_count == 1 ? "" : "s", config->upstream_count, config->upstream_count == 1 ? "" : "s",
           config->route_count, config->route_count == 1 ? "" : "s");
    config_destroy(config);
    return 0;
}

static bool has_argument(int count, char **arguments, const char *wanted)
{
    for (int i = 2; i < count; i++) {
        if (strcmp(arguments[i], wanted) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "serve") == 0 && argc == 3) {
        return serve(argv[2]);
    }
    if (strcmp(verb, "check") == 0 && has_argument(argc, argv, "--machine")) {
        return machine_check_run(argc - 2, argv + 2);
    }
    if (strcmp(verb, "check") == 0 && argc == 3 && argv[2][0] != '-') {
        return check(argv[2]);
    }
    if (strcmp(verb, "demo") == 0) {
        return demo_run(argc - 2, argv + 2);
    }
    if (strcmp(verb, "reference") == 0 && argc == 2) {
        config_write_reference(stdout);
        return 0;
    }
    if (strcmp(verb, "--version") == 0 || strcmp(verb, "version") == 0) {
        puts("sluice " SLUICE_VERSION);
        return 0;
    }
    bool wants_help = strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0;
    fputs(usage_text, wants_help ? stdout : stderr);
    return wants_help ? 0 : 2;
}
