#include "server/listeners.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const struct config_listener *listener_at(const struct config *config, unsigned index)
{
    return index < config->listener_count ? &config->listeners[index] : &config->admin;
}

static unsigned count_of(const struct config *config)
{
    return config->listener_count + (config->has_admin ? 1 : 0);
}

static struct bytes name_at(const struct config *config, unsigned index)
{
    return index < config->listener_count ? config->listeners[index].name : BYTES("admin");
}

static int *fd_at(struct listeners *listeners, unsigned worker, unsigned index)
{
    return &listeners->fds[worker * listeners->count + index];
}

static void tell(const struct listeners *listeners, unsigned index, const struct ring_address *address)
{
    char text[RING_ADDRESS_TEXT_MAX];
    ring_address_format(address, text);
    log_info("listening on %s%s%s", text, index < listeners->config->listener_count ? "" : " (admin)",
             listeners->each[index].is_passed ? " (passed by the service manager)" : "");
}

/* ---- passed ones ---- */

int listeners_find(const struct config *config, const struct ring_passed_socket *socket)
{
    unsigned count = count_of(config);
    for (unsigned i = 0; i < count; i++) {
        if (ring_passed_is_at(socket, &listener_at(config, i)->address)) {
            return (int)i;
        }
    }
    struct bytes name = bytes_from(socket->name);
    for (unsigned i = 0; i < count; i++) {
        if (name.len > 0 && bytes_equal(name, name_at(config, i))) {
            return (int)i;
        }
    }
    return -1;
}

/* Gives every worker a descriptor of the socket `fd`, which it takes. */
static bool spread(struct listeners *listeners, unsigned index, int fd)
{
    *fd_at(listeners, 0, index) = fd;
    listeners->each[index].is_shared = listeners->worker_count > 1;
    listeners->each[index].share.workers = listeners->worker_count;
    for (unsigned w = 1; w < listeners->worker_count; w++) {
        enum result result = ring_listen_share(fd, fd_at(listeners, w, index));
        if (result != RESULT_OK) {
            log_error("cannot listen on %.*s with every worker: %s",
                      BYTES_ARG(listener_at(listeners->config, index)->text), result_name(result));
            return false;
        }
    }
    return true;
}

static bool use_passed(struct listeners *listeners, const struct ring_passed_socket *socket)
{
    char text[RING_ADDRESS_TEXT_MAX];
    ring_address_format(&socket->address, text);
    int index = listeners_find(listeners->config, socket);
    if (index < 0) {
        log_error(
            "the service manager has passed a socket at %s, named '%s', but no listener has this address or name; "
            "write an address in ListenStream= as in the configuration, or a listener's name in "
            "FileDescriptorName=",
            text, socket->name);
        return false;
    }
    if (listeners->each[index].is_passed) {
        log_error("the service manager has passed two sockets for the listener %.*s; the second is at %s, named '%s'",
                  BYTES_ARG(listener_at(listeners->config, (unsigned)index)->text), text, socket->name);
        return false;
    }
    listeners->each[index].is_passed = true;
    if (!spread(listeners, (unsigned)index, socket->fd)) {
        return false;
    }
    tell(listeners, (unsigned)index, &socket->address);
    return true;
}

static bool take_passed(struct listeners *listeners)
{
    struct ring_passed passed;
    char why[RING_PASSED_WHY_BYTES];
    enum result result = ring_passed_take(RING_PASSED_FIRST, &passed, why);
    if (result != RESULT_OK) {
        log_error("%s", result == RESULT_CONFIG ? why : result_name(result));
        return false;
    }
    bool ok = true;
    for (unsigned i = 0; ok && i < passed.count; i++) {
        ok = use_passed(listeners, &passed.sockets[i]);
    }
    ring_passed_fini(&passed);
    return ok;
}

/* ---- our own ---- */

/* Probed without SO_REUSEPORT first, or a second instance would silently share the port. */
static enum result open_one(struct listeners *listeners, unsigned index, struct ring_address *address)
{
    enum result result = ring_listen_probe(address);
    if (address->any.sa_family == AF_UNIX) {
        int fd = -1;
        result = result == RESULT_OK ? ring_listen_open(address, false, &fd) : result;
        return result != RESULT_OK ? result : spread(listeners, index, fd) ? RESULT_OK : RESULT_LIMIT;
    }
    for (unsigned w = 0; w < listeners->worker_count && result == RESULT_OK; w++) {
        int *fd = fd_at(listeners, w, index);
        result = ring_listen_open(address, true, fd);
        if (result == RESULT_OK && w == 0) {
            *address = ring_listen_address(*fd); /* port 0 was given a number: the others join it */
        }
    }
    return result;
}

static bool open_own(struct listeners *listeners, unsigned index)
{
    struct ring_address address = listener_at(listeners->config, index)->address;
    enum result result = open_one(listeners, index, &address);
    if (result != RESULT_OK) {
        const char *why = result == RESULT_REFUSED ? "the address is in use: is another instance running?"
                          : result == RESULT_UNREACHABLE
                              ? "the address is not this machine's, or may not be used (ports below 1024 need rights)"
                              : result_name(result);
        log_error("cannot listen on %.*s: %s", BYTES_ARG(listener_at(listeners->config, index)->text), why);
        return false;
    }
    listeners->each[index].is_own = true;
    tell(listeners, index, &address);
    return true;
}

bool listeners_open(struct listeners *listeners, const struct config *config, unsigned worker_count)
{
    unsigned count = count_of(config);
    *listeners = (struct listeners){.config = config, .count = count, .worker_count = worker_count};
    listeners->each = calloc(count, sizeof(*listeners->each));
    listeners->fds = malloc(sizeof(int) * count * worker_count);
    if (listeners->each == NULL || listeners->fds == NULL) {
        log_error("out of memory");
        return false;
    }
    memset(listeners->fds, 0xff, sizeof(int) * count * worker_count); /* -1 */
    bool ok = take_passed(listeners);
    for (unsigned i = 0; ok && i < count; i++) {
        ok = listeners->each[i].is_passed || open_own(listeners, i);
    }
    return ok;
}

int listeners_take(struct listeners *listeners, unsigned worker, unsigned index)
{
    int *fd = fd_at(listeners, worker, index);
    int taken = *fd;
    *fd = -1;
    return taken;
}

void listeners_close(struct listeners *listeners)
{
    for (unsigned i = 0; listeners->each != NULL && listeners->fds != NULL && i < listeners->count; i++) {
        for (unsigned w = 0; w < listeners->worker_count; w++) {
            int fd = listeners_take(listeners, w, i);
            if (fd >= 0) {
                ring_refuse(fd);
            }
        }
        if (listeners->each[i].is_own) {
            ring_listen_remove(&listener_at(listeners->config, i)->address);
        }
    }
    free(listeners->each);
    free(listeners->fds);
    *listeners = (struct listeners){0};
}
