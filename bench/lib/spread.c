#include "spread.h"

#include <stdio.h>

void spread_print(const char *name, const struct spread *spread)
{
    static const double CURVE[] = {0,     0.1,     0.2,    0.3,     0.4,    0.5,     0.6,     0.7,     0.75,  0.8,
                                   0.85,  0.9,     0.925,  0.95,    0.97,   0.98,    0.99,    0.9925,  0.995, 0.9975,
                                   0.999, 0.99925, 0.9995, 0.99975, 0.9999, 0.99995, 0.99999, 0.999999};
    printf("\"%s\":{\"count\":%llu,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p75_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,"
           "\"p999_us\":%.1f,\"max_us\":%.1f,\"curve\":[",
           name, (unsigned long long)spread->histogram.count, spread_mean_us(spread), spread_quantile_us(spread, 0.5),
           spread_quantile_us(spread, 0.75), spread_quantile_us(spread, 0.9), spread_quantile_us(spread, 0.99),
           spread_quantile_us(spread, 0.999), (double)spread->max_ns / 1e3);
    for (size_t i = 0; i < sizeof CURVE / sizeof *CURVE; i++)
        if ((1 - CURVE[i]) * (double)spread->histogram.count >= 1)
            printf("%s[%.6f,%.1f]", i > 0 ? "," : "", CURVE[i], spread_quantile_us(spread, CURVE[i]));
    printf("]}");
}
