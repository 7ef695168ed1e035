#include "load_paced.h"

static uint64_t backlog(const struct paced *paced)
{
    const struct pace *pace = &paced->pace;
    if (!paced->is_open || pace->due_ns >= paced->now_ns)
        return 0;
    return (uint64_t)((double)(paced->now_ns - pace->due_ns) / 1e9 * pace->rate);
}

void paced_print_interval(struct paced *paced)
{
    struct interval *interval = &paced->interval;
    printf("{\"at_s\":%.3f,\"answered\":%llu,\"failed\":%llu,\"tokens\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"max_us\":%.1f,\"busy\":%ld,\"backlog\":%llu,\"answered_ever\":%llu}\n",
           (double)(paced->now_ns - paced->window_begin_ns) / 1e9, (unsigned long long)interval->answered,
           (unsigned long long)interval->failed, (unsigned long long)interval->tokens,
           spread_quantile_us(&interval->latency, 0.5), spread_quantile_us(&interval->latency, 0.99),
           (double)interval->latency.max_ns / 1e3,
           paced->load.options->connections - paced->idle_count - paced->missing, (unsigned long long)backlog(paced),
           (unsigned long long)paced->answered_ever);
    fflush(stdout);
    memset(interval, 0, sizeof *interval);
}

/* Those without an answer count with what they have waited so far, which is less than they would have. */
static void count_unanswered(struct paced *paced)
{
    for (int fd = 0; fd < BENCH_FD_MAX; fd++) {
        const struct paced_connection *connection = &paced->connection[fd];
        if (!connection->is_asked || !connection->is_measured)
            continue;
        paced->unanswered++;
        spread_add(&paced->latency, paced->now_ns - connection->due_ns);
        if (paced->is_open)
            spread_add(&paced->service, paced->now_ns - connection->sent_ns);
        if (connection->answer.is_events && connection->first_token_ns == 0)
            spread_add(&paced->first_token, paced->now_ns - connection->due_ns);
    }
    for (; paced->is_open && paced->pace.due_ns < paced->window_end_ns; pace_next(&paced->pace)) {
        if (paced->pace.due_ns < paced->window_begin_ns)
            continue;
        paced->due++;
        paced->waited++;
        paced->unanswered++;
        spread_add(&paced->latency, paced->now_ns - paced->pace.due_ns);
    }
}

static void print_statuses(const struct paced *paced)
{
    bool is_first = true;
    printf("\"statuses\":{");
    for (unsigned i = 0; i < PACED_STATUS_MAX; i++)
        if (paced->status[i] > 0) {
            printf("%s\"%u\":%llu", is_first ? "" : ",", i, (unsigned long long)paced->status[i]);
            is_first = false;
        }
    printf("},");
}

static void print_spreads(const struct paced *paced)
{
    const struct {
        const char *name;
        const struct spread *spread;
    } spreads[] = {
        {"latency", &paced->latency},         {"service", &paced->service},
        {"refusal", &paced->refusal},         {"lag", &paced->lag},
        {"first_event", &paced->first_event}, {"first_token", &paced->first_token},
        {"token_gap", &paced->token_gap},
    };
    for (size_t i = 0; i < sizeof spreads / sizeof *spreads; i++)
        if (spreads[i].spread->histogram.count > 0) {
            spread_print(spreads[i].name, spreads[i].spread);
            printf(",");
        }
}

void paced_print_result(struct paced *paced)
{
    count_unanswered(paced);
    const struct load *load = &paced->load;
    double elapsed_s = (double)(load->end.at_ns - load->begin.at_ns) / 1e9;
    printf("{\"requests\":%llu,\"good\":%llu,\"failed\":%llu,\"broken\":%llu,\"unanswered\":%llu,\"waited\":%llu,"
           "\"late\":%llu,\"events\":%llu,\"tokens\":%llu,\"bytes\":%llu,\"per_s\":%.3f,\"tokens_per_s\":%.3f,",
           (unsigned long long)paced->due, (unsigned long long)paced->good, (unsigned long long)paced->failed,
           (unsigned long long)paced->broken, (unsigned long long)paced->unanswered, (unsigned long long)paced->waited,
           (unsigned long long)paced->late, (unsigned long long)paced->events, (unsigned long long)paced->tokens,
           (unsigned long long)paced->bytes, (double)paced->in_window / elapsed_s,
           (double)paced->tokens_in_window / elapsed_s);
    printf("\"sent_ever\":%llu,\"answered_ever\":%llu,\"good_ever\":%llu,\"closed\":%llu,\"connect_failures\":%llu,",
           (unsigned long long)paced->sent_ever, (unsigned long long)paced->answered_ever,
           (unsigned long long)paced->good_ever, (unsigned long long)paced->closed,
           (unsigned long long)paced->connect_failures);
    print_statuses(paced);
    print_spreads(paced);
    usage_print(&load->begin, &load->end);
    printf("}\n");
}
