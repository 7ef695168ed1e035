/* Why an inference request or its answer is not stored or shared: for the detail of Cache-Status and a counter each. */
#ifndef SLUICE_API_INFERENCE_REASON_H
#define SLUICE_API_INFERENCE_REASON_H

enum inference_reason {
    INFERENCE_OK, /* nothing speaks against it */

    /* of the request */
    INFERENCE_UNKNOWN_FAMILY,   /* not an endpoint whose answers are understood */
    INFERENCE_NOT_JSON,         /* the body is not one JSON object in UTF-8 */
    INFERENCE_TOO_DEEP,         /* nested deeper than INFERENCE_DEPTH_MAX */
    INFERENCE_TOO_COMPLEX,      /* so many values that reading them would take more memory than they deserve */
    INFERENCE_ODD_MEMBER,       /* `stream` or the like is of a type that backends may read in their own ways */
    INFERENCE_DUPLICATE_MEMBER, /* two members of one name: which one counts is the backend's choice, not ours */
    INFERENCE_SAMPLED,          /* the same request may be answered differently each time */
    INFERENCE_STORE_REQUESTED,  /* the backend keeps the answer under its id, for this client to come back to */
    INFERENCE_STATEFUL,         /* depends on earlier answers, or runs in the background */
    INFERENCE_SERVER_TOOLS,     /* the backend looks things up: the answer depends on the world */
    INFERENCE_NO_STORE,         /* `Cache-Control: no-store`, or the body's own `cache: {"no-store": true}` */
    INFERENCE_NO_TTL,           /* nothing is to be kept for any time, by the route or the request */
    INFERENCE_OUT_OF_MEMORY,

    /* of the answer */
    INFERENCE_STATUS,         /* other than 200 */
    INFERENCE_CONTENT_TYPE,   /* neither JSON nor an event stream, or content-coded */
    INFERENCE_ERROR_IN_BODY,  /* a 200 that says it failed */
    INFERENCE_NO_END,         /* a stream without its terminal event */
    INFERENCE_TRUNCATED,      /* a choice without a finish reason, or a response that is not complete */
    INFERENCE_TOOL_CALLS,     /* the answer asks the client to call a tool */
    INFERENCE_FINISHED_BADLY, /* finish reason `error`, `abort` or `content_filter` */
    INFERENCE_MALFORMED,      /* the body is not the JSON, or the stream not the events, that it should be */
    INFERENCE_TOO_MANY_CHOICES,
    INFERENCE_BACKEND_NO_STORE, /* its Cache-Control forbids to store it */
    INFERENCE_BACKEND_VARY,     /* its Vary names what is no part of the key */
    INFERENCE_BACKEND_PRIVATE,  /* its Cache-Control says it is one client's, and tenants share the store */

    INFERENCE_REASONS,
};

/* A static lower-case token such as "sampled"; "ok" for INFERENCE_OK. */
const char *inference_reason_name(enum inference_reason reason);

#endif
