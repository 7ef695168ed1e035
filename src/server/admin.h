/* The admin listener: /health and /metrics; /api is own_api.h's. */
#ifndef SLUICE_SERVER_ADMIN_H
#define SLUICE_SERVER_ADMIN_H

#include "server/conn.h"

/* Queues the answer; *borrows* all. `answer` holds what every answer shares. On failure the connection is closed. */
void admin_answer(struct conn *conn, const struct http_head *head, struct bytes path, struct conn_answer *answer);

#endif
