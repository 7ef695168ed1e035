/* ServeGen: for each client a table of rates (t_s, rate, cv, pattern, shape, scale) and, for some windows of the day,
 * the distribution of its prompts' and answers' lengths. Gaps are Gamma or Weibull of the given shape, by the rate. */
#include "source.h"

#include "die.h"

struct source *source_load_servegen(const char *path, double from_s, double length_s, uint64_t seed)
{
    (void)from_s;
    (void)length_s;
    (void)seed;
    bench_die("%s: not yet", path);
}
