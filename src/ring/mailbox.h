/* Messages between workers: one single-producer single-consumer queue per pair, and a wake through the
 * ring only when the receiver sleeps. */
#ifndef SLUICE_RING_MAILBOX_H
#define SLUICE_RING_MAILBOX_H

#include "ring/ring.h"

/* A message sits inside whatever it carries; the receiver gets the pointer, and with it that memory. */
struct ring_message {
    struct ring_message *next;
    void (*on_deliver)(struct ring *receiver, struct ring_message *message);
};

/* Makes the mailboxes for `count` workers. NULL when memory is out. */
struct ring_group *ring_group_create(unsigned count);
void ring_group_destroy(struct ring_group *group);
unsigned ring_group_count(const struct ring_group *group);

/* Sends from the worker that calls to the worker `to` (itself allowed). *Gives* the message away; delivered
 * in order per pair, at the receiver's next turn. Never fails: a full queue spills to the sender's own list. */
void ring_post(struct ring *from, unsigned to, struct ring_message *message);

/* Sends from a thread that owns no ring (it may block on a short lock); wakes by the worker's eventfd. */
void ring_group_post(struct ring_group *group, unsigned to, struct ring_message *message);

#endif
