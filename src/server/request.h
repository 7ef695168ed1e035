/* A request's head has been read: where does it go? */
#ifndef SLUICE_SERVER_REQUEST_H
#define SLUICE_SERVER_REQUEST_H

#include "server/conn.h"

/* Routes the request whose head `parser` holds: answers it now, or makes it conn's exchange. */
void request_begin(struct conn *conn, struct http_parser *parser, const char *base);

/* Answers what could not be read as a request, and ends the connection. */
void request_refuse(struct conn *conn, uint16_t status, const char *message);

#endif
