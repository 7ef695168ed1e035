/* sluice-sim: the simulated inference server as a program. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "sim/profiles.h"
#include "sim/server.h"

static const char USAGE[] =
    "usage: sluice-sim [OPTION]...\n"
    "An OpenAI-compatible server that answers deterministic text at the pace of a continuous-batching engine.\n"
    "\n"
    "  --listen ADDRESS        where to listen: 1.2.3.4:80, [::1]:80, unix:/path; port 0 picks a free one\n"
    "                          (default 127.0.0.1:9000)\n"
    "  --model NAME            a model to offer; may be repeated (default sluice-sim)\n"
    "  --profile NAME          the engine (default reference); see below\n"
    "  --time-scale X          run the engine X times as fast, e.g. 10 or 0.5 (default 1)\n"
    "  --context TOKENS        longest prompt and answer together (default: the profile's KV memory)\n"
    "  --kv-tokens TOKENS      the engine's KV memory\n"
    "  --sequences N           sequences in the batch at a time\n"
    "  --side-by-side N        share each step's prefill budget among at most N prompts (default: in order)\n"
    "  --ticker                no engine: every stream gets its tokens at a fixed rate\n"
    "  --ticker-rate R         tokens a second of --ticker, and of /ticker without rate= (default 20)\n"
    "  --fault SPEC            a fault for requests that name none in x-sim-fault, with p=0.05 for one in twenty; may "
    "be\n"
    "                          repeated, the first that is drawn counts\n"
    "  --seed N                of those draws (default 1)\n"
    "  --cpu N                 pin to this processor\n"
    "  --help\n"
    "\n"
    "Profiles:\n";

enum option_id {
    OPTION_LISTEN = 256,
    OPTION_MODEL,
    OPTION_PROFILE,
    OPTION_TIME_SCALE,
    OPTION_CONTEXT,
    OPTION_KV_TOKENS,
    OPTION_SEQUENCES,
    OPTION_SIDE_BY_SIDE,
    OPTION_TICKER,
    OPTION_TICKER_RATE,
    OPTION_FAULT,
    OPTION_SEED,
    OPTION_CPU,
    OPTION_HELP,
};

static const struct option LONG_OPTIONS[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"time-scale", required_argument, NULL, OPTION_TIME_SCALE},
    {"context", required_argument, NULL, OPTION_CONTEXT},
    {"kv-tokens", required_argument, NULL, OPTION_KV_TOKENS},
    {"sequences", required_argument, NULL, OPTION_SEQUENCES},
    {"side-by-side", required_argument, NULL, OPTION_SIDE_BY_SIDE},
    {"ticker", no_argument, NULL, OPTION_TICKER},
    {"ticker-rate", required_argument, NULL, OPTION_TICKER_RATE},
    {"fault", required_argument, NULL, OPTION_FAULT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"cpu", required_argument, NULL, OPTION_CPU},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* The bounds are applied when every option is known, so that their order does not matter. */
struct arguments {
    struct sim_options options;
    uint32_t context_tokens; /* 0: not said */
    uint32_t kv_tokens;
    uint32_t sequences;
    bool models_given;
};

static void print_usage(FILE *out)
{
    unsigned count;
    const struct engine_profile *profiles = profiles_all(&count);
    fputs(USAGE, out);
    for (unsigned i = 0; i < count; i++) {
        fprintf(out, "  %-24s step %.1f ms + %.3f ms a further sequence, prefill %u/s, KV %u tokens\n",
                profiles[i].name, (double)profiles[i].step_base_ns / 1e6,
                (double)profiles[i].step_per_sequence_ns / 1e6, profiles[i].prefill_tokens_per_s,
                profiles[i].kv_tokens_max);
    }
}

static bool complain(const char *option, const char *value, const char *want)
{
    fprintf(stderr, "sluice-sim: --%s %s: %s\n", option, value, want);
    return false;
}

static bool read_count(const char *option, const char *value, uint64_t min, uint64_t max, uint64_t *ret_count)
{
    uint64_t count;
    char want[96];
    if (!bytes_to_u64(bytes_from(value), &count) || count < min || count > max) {
        snprintf(want, sizeof(want), "a number from %llu to %llu is wanted", (unsigned long long)min,
                 (unsigned long long)max);
        return complain(option, value, want);
    }
    *ret_count = count;
    return true;
}

static bool read_u32(const char *option, const char *value, uint32_t min, uint32_t *ret_count)
{
    uint64_t count;
    if (!read_count(option, value, min, 1000000000, &count)) {
        return false;
    }
    *ret_count = (uint32_t)count;
    return true;
}

static bool read_milli(const char *option, const char *value, uint32_t *ret_milli)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    if (errno != 0 || end == value || *end != '\0' || !(number >= 0.001 && number <= 1000000)) {
        return complain(option, value, "a number from 0.001 to 1000000 is wanted");
    }
    *ret_milli = (uint32_t)(number * 1000 + 0.5);
    return true;
}

static bool add_fault(struct sim_options *options, const char *value)
{
    struct bytes bad;
    char want[160];
    if (options->fault_count == SIM_FAULTS_MAX) {
        return complain("fault", value, "too many of them");
    }
    if (!sim_fault_parse(bytes_from(value), &options->faults[options->fault_count], &bad)) {
        snprintf(want, sizeof(want), "\"%.*s\" was not understood", BYTES_ARG(bad));
        return complain("fault", value, want);
    }
    options->fault_count++;
    return true;
}

static bool add_model(struct arguments *arguments, const char *value)
{
    struct sim_options *options = &arguments->options;
    if (!arguments->models_given) {
        arguments->models_given = true;
        options->model_count = 0;
    }
    if (options->model_count == SIM_MODELS_MAX || value[0] == '\0') {
        return complain("model", value, "too many models, or one without a name");
    }
    options->models[options->model_count++] = value;
    return true;
}

static bool set_profile(struct sim_options *options, const char *value)
{
    const struct engine_profile *profile = profiles_find(bytes_from(value));
    if (profile == NULL) {
        return complain("profile", value, "there is no such profile; --help lists them");
    }
    options->profile = *profile;
    return true;
}

static bool apply_option(struct arguments *arguments, int id, const char *value)
{
    struct sim_options *options = &arguments->options;
    uint64_t number;
    switch (id) {
    case OPTION_LISTEN:
        return ring_address_parse(bytes_from(value), &options->listen) == RESULT_OK ||
               complain("listen", value, "an address like 127.0.0.1:9000 is wanted");
    case OPTION_MODEL: return add_model(arguments, value);
    case OPTION_PROFILE: return set_profile(options, value);
    case OPTION_TIME_SCALE: return read_milli("time-scale", value, &options->time_scale_milli);
    case OPTION_CONTEXT: return read_u32("context", value, 2, &arguments->context_tokens);
    case OPTION_KV_TOKENS: return read_u32("kv-tokens", value, 2, &arguments->kv_tokens);
    case OPTION_SEQUENCES: return read_u32("sequences", value, 1, &arguments->sequences);
    case OPTION_SIDE_BY_SIDE: return read_u32("side-by-side", value, 0, &options->prefills_side_by_side);
    case OPTION_TICKER: options->ticker = true; return true;
    case OPTION_TICKER_RATE: return read_milli("ticker-rate", value, &options->ticker_rate_milli);
    case OPTION_FAULT: return add_fault(options, value);
    case OPTION_SEED: return read_count("seed", value, 0, UINT64_MAX, &options->seed);
    case OPTION_CPU:
        if (!read_count("cpu", value, 0, 4095, &number)) {
            return false;
        }
        options->cpu = (int)number;
        return true;
    default: return false; /* getopt has complained */
    }
}

static bool apply_bounds(struct arguments *arguments)
{
    struct engine_profile *profile = &arguments->options.profile;
    if (arguments->kv_tokens > 0) {
        profile->kv_tokens_max = arguments->kv_tokens;
        profile->context_tokens_max = arguments->kv_tokens;
    }
    if (arguments->context_tokens > profile->kv_tokens_max) {
        fprintf(stderr, "sluice-sim: --context %u: the KV memory has %u tokens\n", arguments->context_tokens,
                profile->kv_tokens_max);
        return false;
    }
    if (arguments->context_tokens > 0) {
        profile->context_tokens_max = arguments->context_tokens;
    }
    if (arguments->sequences > 0) {
        profile->sequences_max = arguments->sequences;
    }
    return true;
}

static void on_ready(void *context, const struct ring_address *address)
{
    (void)context;
    char text[RING_ADDRESS_TEXT_MAX];
    ring_address_format(address, text);
    printf("sluice-sim listening on %s\n", text);
    fflush(stdout);
}

/* Waits for a signal on a thread of its own, so that no handler interrupts the worker. */
static void *wait_for_signal(void *context)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    int which;
    sigwait(&signals, &which);
    sim_stop(context);
    return NULL;
}

static int serve(const struct sim_options *options)
{
    struct sim *sim = sim_create(options);
    if (sim == NULL) {
        fputs("sluice-sim: out of memory\n", stderr);
        return 1;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_t waiter;
    if (pthread_create(&waiter, NULL, wait_for_signal, sim) != 0) {
        fputs("sluice-sim: cannot start a thread\n", stderr);
        sim_destroy(sim);
        return 1;
    }
    enum result result = sim_serve(sim, on_ready, NULL);
    pthread_kill(waiter, SIGTERM); /* when it was not a signal that ended the server */
    pthread_join(waiter, NULL);
    sim_destroy(sim);
    return result == RESULT_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.context_tokens = 0};
    sim_options_init(&arguments.options);
    int id;
    while ((id = getopt_long(argc, argv, "h", LONG_OPTIONS, NULL)) != -1) {
        if (id == OPTION_HELP || id == 'h') {
            print_usage(stdout);
            return 0;
        }
        if (!apply_option(&arguments, id, optarg)) {
            fputs("sluice-sim --help lists the options\n", stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sluice-sim: %s: no argument is expected\n", argv[optind]);
        return 2;
    }
    return apply_bounds(&arguments) ? serve(&arguments.options) : 2;
}
