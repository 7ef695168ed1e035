#include "ring/address.h"

#include <criterion/criterion.h>
#include <sched.h>

#include "base/check.h"
#include "ring/topology.h"

static enum result parse(const char *text, struct ring_address *address)
{
    return ring_address_parse(bytes_from(text), address);
}

Test(address, what_is_read_is_written_the_same)
{
    static const char *const texts[] = {
        "1.2.3.4:80",          "127.0.0.1:65535",  "0.0.0.0:0",     "[::1]:80",    "[::]:8080",
        "[2001:db8::1:2]:443", "unix:/run/x.sock", "unix:relative", "255.1.2.3:1", "[fe80::1:2:3:4]:1",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct ring_address address;
        char out[RING_ADDRESS_TEXT_MAX];
        cr_assert_eq(parse(texts[i], &address), RESULT_OK, "%s", texts[i]);
        cr_assert_eq(ring_address_format(&address, out), strlen(texts[i]));
        cr_assert_str_eq(out, texts[i]);
        struct ring_address again;
        cr_assert_eq(parse(out, &again), RESULT_OK);
        cr_assert(ring_address_equal(&address, &again));
    }
}

Test(address, any_address_has_short_forms)
{
    struct ring_address any;
    struct ring_address star;
    struct ring_address zero;
    cr_assert_eq(parse(":80", &any), RESULT_OK);
    cr_assert_eq(parse("*:80", &star), RESULT_OK);
    cr_assert_eq(parse("0.0.0.0:80", &zero), RESULT_OK);
    cr_assert(ring_address_equal(&any, &zero) && ring_address_equal(&star, &zero));
    cr_assert_eq(parse("0.0.0.0:81", &any), RESULT_OK);
    cr_assert_not(ring_address_equal(&any, &zero));
}

Test(address, names_are_told_from_nonsense)
{
    static const char *const names[] = {"localhost:80", "a.b-c_d.example:1", "gpu1:8000", "1a.com:0"};
    static const char *const wrong[] = {
        "",
        ":",
        "80",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "::1]:80",
        "[1.2.3.4]:80",
        "[host]:80",
        "host name:80",
        "host:-1",
        "host:+1",
        "host:0x1",
        "host: 80",
        "http://h:80",
        "[]:80",
        "unix:",
        "host/path:80",
        "host:99999999999999999999",
    };
    struct ring_address address = {.bytes = 77};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        cr_assert_eq(parse(names[i], &address), RESULT_MORE, "%s", names[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        cr_assert_eq(parse(wrong[i], &address), RESULT_CONFIG, "%s", wrong[i]);
    }
    cr_assert_eq(address.bytes, 77, "written only on success");
}

Test(address, a_unix_path_as_long_as_the_kernel_takes_fits_and_one_more_does_not)
{
    char text[200] = "unix:";
    struct ring_address address;
    size_t most = sizeof(address.un.sun_path) - 1;
    memset(text + 5, 'x', most + 1);
    cr_assert_eq(ring_address_parse((struct bytes){text, 5 + most}, &address), RESULT_OK);
    char out[RING_ADDRESS_TEXT_MAX];
    cr_assert_eq(ring_address_format(&address, out), 5 + most);
    cr_assert_eq(ring_address_parse((struct bytes){text, 6 + most}, &address), RESULT_CONFIG);
}

Test(address, the_host_alone_has_no_brackets_and_no_port)
{
    struct ring_address address;
    char out[RING_ADDRESS_TEXT_MAX];
    cr_assert_eq(parse("[2001:db8::1]:80", &address), RESULT_OK);
    cr_assert_eq(ring_address_format_host(&address, out), 11);
    cr_assert_str_eq(out, "2001:db8::1");
    cr_assert_eq(parse("unix:/x", &address), RESULT_OK);
    ring_address_format_host(&address, out);
    cr_assert_str_eq(out, "unix");
    address.bytes = 0;
    cr_assert_eq(ring_address_format_host(&address, out), 0);
    cr_assert_eq(ring_address_format(&address, out), 0);
}

Test(address, looking_up_gives_addresses_with_the_port_or_says_unreachable)
{
    struct ring_address found[4];
    unsigned count = 0;
    cr_assert_eq(ring_address_resolve(BYTES("127.0.0.1:81"), found, 4, &count), RESULT_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(ntohs(found[0].v4.sin_port), 81);
    cr_assert_eq(ring_address_resolve(BYTES("no-such-host.invalid:80"), found, 4, &count), RESULT_UNREACHABLE);
    cr_assert_eq(ring_address_resolve(BYTES("no port"), found, 4, &count), RESULT_CONFIG);
}

Test(topology, names_each_allowed_cpu_once)
{
    struct topology topology;
    topology_read("", -1, &topology);
    cpu_set_t allowed;
    cr_assert_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    cr_assert_eq((int)topology.cpu_count, CPU_COUNT(&allowed));
    cr_assert(topology.core_count >= 1 && topology.core_count <= topology.cpu_count);
    for (unsigned i = 0; i < topology.cpu_count; i++) {
        cr_assert(CPU_ISSET(topology.cpus[i].cpu, &allowed));
        CPU_CLR(topology.cpus[i].cpu, &allowed);
    }
}

Test(topology, follows_a_narrower_affinity)
{
    cpu_set_t allowed;
    cr_assert_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    unsigned last = 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        last = CPU_ISSET(cpu, &allowed) ? cpu : last;
    }
    CPU_ZERO(&allowed);
    CPU_SET(last, &allowed);
    cr_assert_eq(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
    struct topology topology;
    topology_read("", -1, &topology);
    cr_assert_eq(topology.cpu_count, 1);
    cr_assert_eq(topology.core_count, 1);
    cr_assert_eq(topology.cpus[0].cpu, last);
}
