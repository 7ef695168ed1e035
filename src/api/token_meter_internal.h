/* The two halves of the token meter: JSON (token_meter.c), and the lines of an event stream around it. */
#ifndef SLUICE_API_TOKEN_METER_INTERNAL_H
#define SLUICE_API_TOKEN_METER_INTERNAL_H

#include "api/token_meter.h"

/* Of token_meter.texts: so many that no frame is learned from the line; whoever finds something that must be looked at
 * in every line says so, too. */
enum { TOKEN_METER_TEXTS_MANY = 2 };

/* Looks at the next bytes of the stream, of which there is at least one. */
void token_meter_feed_lines(struct token_meter *meter, struct bytes run);

/* Looks at the next bytes of the event's data. */
void token_meter_feed_json(struct token_meter *meter, struct bytes run);

/* Whether none of the event's data has come, but for white space. */
bool token_meter_is_fresh(const struct token_meter *meter);

/* Whether the data is one whole value, with what may come behind it. */
bool token_meter_is_through(const struct token_meter *meter);

/* Makes it through without looking, from fresh. */
void token_meter_pass(struct token_meter *meter);

/* Something that the model wrote has come, in the choice under way. */
void token_meter_on_content(struct token_meter *meter);

/* That choice is over, or an event that has none. */
void token_meter_settle_choice(struct token_meter *meter);

void token_meter_event_done(struct token_meter *meter);

#endif
