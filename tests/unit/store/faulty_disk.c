#include "faulty_disk.h"

#include <sqlite3.h>
#include <stddef.h>

_Atomic int faulty_disk_write;
_Atomic int faulty_disk_read;

struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real; /* lies behind this struct */
};

static sqlite3_file *real(sqlite3_file *file)
{
    return ((struct faulty_file *)file)->real;
}

static int on_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int on_read(sqlite3_file *file, void *out, int bytes, sqlite3_int64 offset)
{
    int code = atomic_load(&faulty_disk_read);
    return code != SQLITE_OK ? code : real(file)->pMethods->xRead(real(file), out, bytes, offset);
}

static int on_write(sqlite3_file *file, const void *from, int bytes, sqlite3_int64 offset)
{
    int code = atomic_load(&faulty_disk_write);
    return code != SQLITE_OK ? code : real(file)->pMethods->xWrite(real(file), from, bytes, offset);
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 bytes)
{
    return real(file)->pMethods->xTruncate(real(file), bytes);
}

static int on_sync(sqlite3_file *file, int flags)
{
    return real(file)->pMethods->xSync(real(file), flags);
}

static int on_size(sqlite3_file *file, sqlite3_int64 *ret_bytes)
{
    return real(file)->pMethods->xFileSize(real(file), ret_bytes);
}

static int on_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int on_check_lock(sqlite3_file *file, int *ret_is_locked)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), ret_is_locked);
}

static int on_control(sqlite3_file *file, int operation, void *argument)
{
    return real(file)->pMethods->xFileControl(real(file), operation, argument);
}

static int on_sector_size(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int on_characteristics(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int on_shm_map(sqlite3_file *file, int page, int bytes, int may_extend, void volatile **ret_map)
{
    return real(file)->pMethods->xShmMap(real(file), page, bytes, may_extend, ret_map);
}

static int on_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
}

static void on_shm_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int on_shm_unmap(sqlite3_file *file, int deletes)
{
    return real(file)->pMethods->xShmUnmap(real(file), deletes);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* without memory maps of the file */
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_characteristics,
    .xShmMap = on_shm_map,
    .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier,
    .xShmUnmap = on_shm_unmap,
};

static sqlite3_vfs *system_vfs;
static sqlite3_vfs faulty_vfs;

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    struct faulty_file *faulty = (struct faulty_file *)file;
    (void)vfs;
    faulty->real = (sqlite3_file *)(faulty + 1);
    int code = system_vfs->xOpen(system_vfs, name, faulty->real, flags, ret_flags);
    faulty->base.pMethods = code == SQLITE_OK ? &methods : NULL;
    return code;
}

void faulty_disk_install(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    faulty_vfs = *system_vfs;
    faulty_vfs.zName = "faulty";
    faulty_vfs.szOsFile += (int)sizeof(struct faulty_file);
    faulty_vfs.xOpen = on_open;
    sqlite3_vfs_register(&faulty_vfs, 1);
}
