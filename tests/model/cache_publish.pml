/* Publishing, reading, retiring and pinning as in src/cache/qsbr.c: one word of an index, one owner, one reader who
 * sleeps, wakes, looks, pins and looks again. No object that is freed may be looked at.
 *
 * Every store goes through a buffer of its core, first in first out, and becomes visible some time later: that is what
 * the fences are for (x86's order; release and acquire are free in it). A fence waits until the buffer is empty.
 *
 * tests/model/run checks this as it is, and once with each line below left out, which must be found wrong:
 *
 *   NO_GRACE         the owner does not wait for the reader's quiescent state
 *   NO_SCAN          the owner does not look at the pins
 *   SCAN_FIRST       the owner looks at the pins before the grace period, not after it
 *   SAME_EPOCH       the owner takes the epoch of the retirement itself for a later one
 *   NO_ONLINE_FENCE  the reader looks before its being back is visible
 *   NO_PASSED_FENCE  the owner asks who is back before its unlinking is visible
 *   PIN_LATE         the reader pins after its quiescent state */

#define OBJECTS 3 /* one published after the other; 0 is none */
#define OFFLINE 0

mtype = { WORD, EPOCH, SEEN, HAZARD };

byte word;
byte epoch = 1;
byte seen = OFFLINE;
byte hazard;
bool freed[OBJECTS + 1];

chan owner_stores = [2] of { mtype, byte };
chan reader_stores = [2] of { mtype, byte };

#define FENCE(stores) empty(stores)

proctype memory(chan stores)
{
    mtype where;
    byte value;
end:
    do
    :: atomic {
        stores ? where, value;
        if
        :: where == WORD -> word = value
        :: where == EPOCH -> epoch = value
        :: where == SEEN -> seen = value
        :: where == HAZARD -> hazard = value
        fi;
        value = 0
    }
    od
}

proctype owner()
{
    byte object = 1;
    byte now = 1;  /* the epoch: only the owner moves it on */
    byte pinned;
    byte seen_there;

    owner_stores ! WORD, object;
    do
    :: object < OBJECTS ->
        owner_stores ! WORD, object + 1; /* object is unlinked */
        owner_stores ! EPOCH, now + 1;   /* and retired with `now` */
#ifdef SCAN_FIRST
        FENCE(owner_stores);
        pinned = hazard;
#endif
#ifndef NO_GRACE
again:
#ifndef NO_PASSED_FENCE
        FENCE(owner_stores);
#endif
        seen_there = seen;
        if
        :: seen_there == OFFLINE || seen_there > now
#ifdef SAME_EPOCH
        :: seen_there == now
#endif
        :: else -> goto again
        fi;
#endif
#ifndef NO_SCAN
rescan:
#ifndef SCAN_FIRST
        pinned = hazard;
#endif
        if
        :: pinned == object -> pinned = hazard; goto rescan
        :: else
        fi;
#endif
        freed[object] = true;
        object++;
        now++;
        seen_there = 0;
        pinned = 0
    :: object == OBJECTS -> break
    od
}

proctype reader()
{
    byte found;
    byte kept; /* pinned */
    byte now;

end:
    do
    :: now = epoch; /* online */
        reader_stores ! SEEN, now;
#ifndef NO_ONLINE_FENCE
        FENCE(reader_stores);
#endif
        do
        :: found = word; /* look, and look at it */
            if
            :: found != 0 -> assert(!freed[found])
            :: else
            fi
        :: found != 0 -> assert(!freed[found]) /* once more in the same turn */
        :: found != 0 && kept == 0 -> /* pin */
#ifdef PIN_LATE
            now = epoch;
            reader_stores ! SEEN, now;
#endif
            reader_stores ! HAZARD, found;
            kept = found
        :: kept != 0 -> assert(!freed[kept])
        :: kept != 0 -> /* unpin */
            reader_stores ! HAZARD, 0;
            kept = 0
        :: found = 0; /* quiescent */
            now = epoch;
            reader_stores ! SEEN, now
        :: break
        od;
        found = 0;
        reader_stores ! SEEN, OFFLINE
    :: kept != 0 -> assert(!freed[kept]) /* while asleep */
    :: kept != 0 ->
        reader_stores ! HAZARD, 0;
        kept = 0
    od
}

init
{
    atomic {
        run memory(owner_stores);
        run memory(reader_stores);
        run owner();
        run reader()
    }
}
