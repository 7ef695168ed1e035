/* A disk under SQLite that fails when it is told to: every file of this process opened from then on lies on it. */
#ifndef TESTS_UNIT_STORE_FAULTY_DISK_H
#define TESTS_UNIT_STORE_FAULTY_DISK_H

#include <stdatomic.h>

/* Codes of SQLite that calls give instead of doing what they should; SQLITE_OK: they do it. */
extern _Atomic int faulty_disk_write;
extern _Atomic int faulty_disk_read;

void faulty_disk_install(void);

#endif
