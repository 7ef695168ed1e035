/* What the files of the configuration reader share; nobody else includes it.
 *
 * A text goes through three steps, each of which goes on after a fault, so that one run reports all of them:
 *
 *     text ──config_yaml.c──▶ tree of nodes ──config_walk.c──▶ struct config ──config_check.c──▶ checked
 *            syntax, bounds                    config_keys*.c: names, types,    what one key alone
 *                                              defaults, bounds                 cannot tell
 *
 * The tree and the faults live in the reader's scratch arena and are gone with it; what stays is copied to
 * the arena of the configuration. */
#ifndef SLUICE_SERVER_CONFIG_INTERNAL_H
#define SLUICE_SERVER_CONFIG_INTERNAL_H

#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/result.h"
#include "server/config.h"

/* Bounds on what is read, so that no file, however made, takes much memory or time. The largest sensible
 * configuration (a thousand routes of ten values) is a tenth of each. */
enum {
    CONFIG_FILE_BYTES_MAX = 1 << 20,
    CONFIG_DEPTH_MAX = 32,
    CONFIG_NODES_MAX = 100000,
    CONFIG_ANCHORS_MAX = 256,
    CONFIG_VISITS_MAX = 100000, /* values read, aliases followed */
    CONFIG_FAULTS_MAX = 200,    /* reported; the rest is counted */
    CONFIG_VALUE_BYTES_MAX = CONFIG_FILE_BYTES_MAX,
    CONFIG_PERCENT_MAX = 90, /* of memory: the rest of the process needs some too */
};

/* ---- the tree ---- */

enum config_node_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING };

struct config_node {
    enum config_node_kind kind;
    bool plain; /* a scalar without quotes */
    unsigned line;
    unsigned column; /* both from 1; 0: not from the file */
    struct bytes text;
    unsigned child_count;
    struct config_node *children; /* of a sequence its items, of a mapping its values */
    struct config_node *next;
    struct config_node *key; /* of a value in a mapping */
};

/* ---- the reader ---- */

struct config_fault {
    unsigned line;
    unsigned column;
    unsigned order; /* in which it was found */
    struct bytes text;
    struct config_fault *next;
};

struct config_reader {
    const char *path;
    struct bytes text;
    struct arena scratch;
    struct config *config;
    struct config_fault *faults;
    unsigned fault_count; /* those beyond CONFIG_FAULTS_MAX included */
    unsigned visits;
    const char *refused_variable; /* complained of already: many routes may read the same one */
    bool no_memory;               /* sticky: an allocation failed, and the outcome is RESULT_NO_MEMORY */
};

/* ---- the table of keys (config_keys*.c) ---- */

enum config_type {
    CONFIG_SECTION,  /* a mapping into the same struct; its defaults hold when it is left out */
    CONFIG_OPTIONAL, /* likewise, but when it is left out nothing is set; `at`: a bool that says it is there */
    CONFIG_LIST,     /* `at`: a pointer, `count_at`: an unsigned, `bytes`: of one element */
    CONFIG_HEADERS,  /* a mapping of free names into a list of struct config_header */
    CONFIG_BOOL,     /* a bool; with `words` also the one in it, as CONFIG_BOOL_AUTO, in a byte */
    CONFIG_NUMBER,   /* unsigned, of `bytes` bytes */
    CONFIG_WORD,     /* one of `words`, as its index, an unsigned */
    CONFIG_TEXT,     /* struct bytes, whatever is in it */
    CONFIG_VALUE,    /* struct bytes that can stand in a header field */
    CONFIG_NAME,     /* struct bytes of letters, digits, '.', '_' and '-' */
    CONFIG_HOST,     /* struct bytes, lower case; may begin with "*." */
    CONFIG_PATH,     /* struct bytes that begins with '/' */
    CONFIG_METHOD,   /* struct bytes */
    CONFIG_LISTENS,  /* struct config_listener */
    CONFIG_ENDPOINT, /* struct config_endpoint */
    CONFIG_UPSTREAM, /* the index of the upstream of that name, an unsigned */
    CONFIG_MEMORY,   /* struct config_memory; bounds are of the bytes, unless they are 0 */
    CONFIG_FILE,     /* struct bytes without a NUL in it, and with one behind it */
    CONFIG_SECRET,   /* struct bytes that can be a bearer token; never shown */
    CONFIG_PART,     /* struct config_part; `words`: those it may be besides header:, cookie: and query: */
    CONFIG_FIELD,    /* struct bytes, the name of a header field, lower case */
};

enum { CONFIG_NOWHERE = UINT16_MAX };

struct config_key {
    const char *path; /* "limits.head_bytes_max", "routes[].respond", "routes[].methods[]" */
    enum config_type type;
    bool required;
    uint16_t at; /* where in its struct: that of the innermost list's element, or struct config */
    uint16_t bytes;
    uint16_t count_at;
    uint64_t min; /* of a number, of a text's length in bytes, of a list's length */
    uint64_t max;
    const char *unit;
    const char *zero;          /* the word that stands for 0, if one does */
    const char *const *words;  /* ends with NULL */
    const char *fallback;      /* the default, as it would be written; NULL: none */
    const char *fallback_says; /* in the reference, when the default is not a constant */
    const char *variable;      /* the environment's, which counts when the key is left out; NULL: none */
    uint32_t variable_scale;   /* of a number in another unit: what one of `variable_unit` is; 0: 1 */
    const char *variable_unit;
    const char *alone; /* of a section: the key in it that a single value in its place is for; NULL: none */
    const char *help;  /* one line */
};

/* Every key once, by its index: a container stands before its children, and those of one container stand in the order
 * of the reference. */
unsigned config_key_count(void);
const struct config_key *config_key_at(unsigned index);

/* Whether `key` lies directly in `container` (NULL: the file itself). */
bool config_key_is_in(const struct config_key *key, const struct config_key *container);

/* The last part of a key's path, without "[]". */
struct bytes config_key_name(const struct config_key *key);

/* The entry for the elements of a list of scalars; NULL when they are mappings. */
const struct config_key *config_key_of_elements(const struct config_key *list);

/* ---- faults (config_faults.c) ---- */

/* Records that something is wrong at `node`; `format` (printf's) gives "what is wrong; what would be right". */
void config_complain(struct config_reader *reader, const struct config_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_complain_at(struct config_reader *reader, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Writes what was recorded, in the order of the file. */
void config_write_faults(struct config_reader *reader, FILE *errors);

/* *Gives* `text` as it can be shown in a message: cut to a line's length, control bytes escaped. */
const char *config_shown(struct config_reader *reader, struct bytes text);

/* How many letters must be put in, taken out, changed or swapped with their neighbour to make `a` of `b`;
 * UINT_MAX when either is longer than any key. */
unsigned config_distance(struct bytes a, struct bytes b);

/* Whether a word at that distance is near enough to be offered instead of `written`. */
bool config_is_near(struct bytes written, unsigned distance);

/* Allocates from the arena of the scratch or of the configuration; NULL sets reader->no_memory. */
void *config_alloc(struct config_reader *reader, struct arena *arena, size_t bytes);
struct bytes config_copy(struct config_reader *reader, struct arena *arena, struct bytes b);

/* ---- steps ---- */

/* Reads the text into a tree. NULL when it is not one well-formed document (a fault, or no_memory, says why). */
struct config_node *config_read_tree(struct config_reader *reader);

/* The value of a key in a mapping, the first when it is given twice; NULL when there is none. */
struct config_node *config_node_get(const struct config_node *mapping, const char *key);

/* Whether a node is an empty plain scalar or `null`: `key:` with nothing behind it. */
bool config_node_is_null(const struct config_node *node);

/* Fills reader->config from the tree by the table of keys. */
void config_walk(struct config_reader *reader, const struct config_node *root);

/* Puts the value of environment variables in for `${NAME}`. False after a fault. */
bool config_expand(struct config_reader *reader, const struct config_node *node, struct bytes *ret_text);

/* Reads the environment variable of a key that is left out, if it has one and it is set and not empty. */
void config_read_variable(struct config_reader *reader, const struct config_key *key, char *base);

/* Reads one scalar into its place. False after a fault; the place is then untouched. */
bool config_read_scalar(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        char *base);

/* The same for what config_expand gave. */
bool config_read_text(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, char *base);

/* The number `text` is; a unit (KB, MB, GB, TB: powers of 1024) may follow when `has_unit`. False: it is none. */
bool config_to_number(struct bytes text, bool has_unit, uint64_t *ret_value);

/* Whether it is a name of RFC 9110 §5.6.2, as of fields, methods and cookies. */
bool config_is_token(struct bytes text);

/* The parts of it that have a file of their own (config_addresses.c, config_names.c, config_cache.c). */
bool config_read_listener(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                          struct bytes text, void *into);
bool config_read_endpoint(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                          struct bytes text, void *into);
bool config_read_host(struct config_reader *reader, const struct config_node *node, struct bytes text,
                      struct bytes *into);
bool config_read_path(struct config_reader *reader, const struct config_node *node, struct bytes text,
                      struct bytes *into);
bool config_read_method(struct config_reader *reader, const struct config_node *node, struct bytes text,
                        struct bytes *into);
bool config_read_name(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, struct bytes *into);
bool config_read_header(struct config_reader *reader, const struct config_node *node, struct config_header *into);
bool config_read_memory(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes text, void *into);
bool config_read_file(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, void *into);
bool config_read_secret(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes text, void *into);
bool config_read_part(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, void *into);
bool config_read_field(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                       struct bytes text, void *into);
bool config_value_is_valid(struct bytes value);

/* Finds what is wrong between keys that are each right, and fills in what follows from several. */
void config_check(struct config_reader *reader, const struct config_node *root);
void config_check_routes(struct config_reader *reader, const struct config_node *list);
void config_check_cache(struct config_reader *reader, const struct config_node *root);

#endif
