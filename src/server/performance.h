/* GET /api/performance: how the gateway does, in one JSON.
 *
 *   ?history=0      without the last hour
 *   ?history=only   that alone
 *
 * Every number is measured; what is not known is null. Read while it is counted: as of about now. */
#ifndef SLUICE_SERVER_PERFORMANCE_H
#define SLUICE_SERVER_PERFORMANCE_H

#include "server/own_api.h"

bool performance_is_path(struct bytes path);

/* For own_api_begin, whose client has been let in: queues the answer and gives its status. On failure the connection is
 * to be closed. */
MUST_USE enum result performance_begin(struct conn *conn, const struct own_api_request *request, uint16_t *ret_status);

#endif
