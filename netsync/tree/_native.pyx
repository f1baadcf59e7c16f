# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled file calls: what one small file costs, in one release of the GIL each.

What each function means is written in its twin, ``netsync.tree._plain``; results and errors are
equal, and one contract suite holds both to that. Here is only what speed adds: no wrapper and no
hand-over of the GIL for every system call.

Every function has a part without the GIL that returns an errno (0 for none) and raises nothing;
names and buffers are held by the caller meanwhile.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport (
    EINTR, EIO, ENAMETOOLONG, ENOENT, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM, ESTALE, errno
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy, strcmp, strlen, strncmp

import os

from netsync.model import Entry, Kind

cdef extern from "<sys/types.h>" nogil:
    ctypedef unsigned int uid_t
    ctypedef unsigned int gid_t
    ctypedef unsigned int mode_t
    ctypedef unsigned long long dev_t
    ctypedef unsigned long long ino_t
    ctypedef unsigned long long nlink_t
    ctypedef long long blkcnt_t
    ctypedef long long off_t
    ctypedef long long time_t

cdef extern from "<sys/stat.h>" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct status "stat":
        mode_t st_mode
        uid_t st_uid
        gid_t st_gid
        off_t st_size
        dev_t st_rdev
        nlink_t st_nlink
        dev_t st_dev
        ino_t st_ino
        blkcnt_t st_blocks
        timespec st_mtim
        timespec st_ctim
    bint S_ISREG(mode_t mode)
    bint S_ISDIR(mode_t mode)
    bint S_ISLNK(mode_t mode)
    bint S_ISFIFO(mode_t mode)
    bint S_ISSOCK(mode_t mode)
    bint S_ISCHR(mode_t mode)
    bint S_ISBLK(mode_t mode)
    int fstat(int fd, status* found)
    int fstatat(int directory, const char* name, status* found, int flags)
    int fchmod(int fd, mode_t mode)
    int futimens(int fd, const timespec* times)

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR
    struct dirent:
        char* d_name
    DIR* fdopendir(int fd)
    dirent* readdir(DIR* stream)
    void rewinddir(DIR* stream)
    int closedir(DIR* stream)

cdef extern from "<fcntl.h>" nogil:
    enum:
        F_DUPFD_CLOEXEC
        O_DIRECTORY
        AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
        O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_TMPFILE
    int fcntl(int fd, int command, ...)
    int openat(int directory, const char* name, int flags, ...)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int fchown(int fd, uid_t uid, gid_t gid)
    int linkat(int old_directory, const char* old, int directory, const char* name, int flags)
    ssize_t read(int fd, void* into, size_t count)
    ssize_t pwrite(int fd, const void* data, size_t count, off_t position)
    ssize_t readlinkat(int directory, const char* name, char* into, size_t room)
    long syscall(long number, ...)
    off_t lseek(int fd, off_t offset, int whence)
    enum:
        SEEK_SET

cdef extern from "<sys/syscall.h>" nogil:
    enum:
        SYS_getdents64

cdef extern from "<sys/xattr.h>" nogil:
    ssize_t llistxattr(const char* path, char* into, size_t size)

NAME = "compiled"

cdef enum:
    RUN = 64  # names looked at in one release of the GIL: some 50 microseconds
    NAMES = 32768  # bytes of names taken in one release of the GIL
    NAME_BYTES = 4096  # the longest name of any file system, and its NUL
    XATTR_NAMES = 256  # bytes of attribute names taken along for one entry
    LISTXATTRAT = 465  # Linux 6.13 and later; the number is the same everywhere but on alpha
    SECOND = 1000000000  # nanoseconds
    SECTOR = 512  # bytes in a unit of st_blocks
    MODE_BITS = 0o7777
    PERMISSIONS = 0o777
    PRIVATE = 0o600
    DIRENT_SIZE = 16  # where an entry of getdents64 has its size, in 16 bits
    DIRENT_NAME = 19  # and where its name begins
    RECORD = 40  # bytes of a packed record before its name
    OWNERS = 64  # users, and groups, of one packed directory
    LEVELS = 32  # directories held open one below the other by a walk
    LINK_TEXT = 4096

cdef long long SECONDS_MAX = 9000000000  # their nanoseconds fit 64 bits; until the year 2255
cdef long long ID_MAX = 0xFFFFFFFF

cdef object FILE = Kind.FILE, DIRECTORY = Kind.DIRECTORY

cdef bint by_descriptor = True  # linkat takes a bare descriptor, until it is seen to refuse
cdef bint has_listxattrat = True  # until the kernel, or a filter of system calls, says otherwise


def read_file(int directory, bytes name not None, room):
    cdef const char* path = c_name(name)
    cdef Py_buffer view
    cdef status before, after
    cdef Py_ssize_t count = 0
    cdef int error
    PyObject_GetBuffer(room, &view, PyBUF_WRITABLE)
    try:
        with nogil:
            error = read_named(directory, path, <char*>view.buf, view.len, &count, &before, &after)
    finally:
        PyBuffer_Release(&view)
    if error:
        raise failure(error, name)
    return count, after.st_size, nanoseconds(&after), after.st_mode


cdef int read_named(
    int directory,
    const char* path,
    char* into,
    Py_ssize_t room,
    Py_ssize_t* count,
    status* before,
    status* after,
) noexcept nogil:
    cdef int fd = opened(directory, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    cdef int error = 0
    if fd < 0:
        return errno
    if fstat(fd, before):
        error = errno
    elif S_ISREG(before.st_mode):
        error = filled(fd, into, room, count)
        if not error and fstat(fd, after):
            error = errno
    else:
        after[0] = before[0]
    if close(fd) and not error:
        error = errno
    return error


cdef int filled(int fd, char* into, Py_ssize_t room, Py_ssize_t* count) noexcept nogil:
    cdef Py_ssize_t got
    while count[0] < room:
        got = read(fd, into + count[0], room - count[0])
        if got == 0:
            break
        if got > 0:
            count[0] += got
        elif errno != EINTR:
            return errno
    return 0


def read_listed(int directory, names, sizes, times, room):
    cdef tuple held = tuple(names)  # nobody else can drop a name meanwhile
    cdef const char* paths[RUN]
    cdef Py_ssize_t lengths[RUN]
    cdef long long listed[RUN]
    cdef int results[RUN]
    cdef Py_buffer view
    cdef Py_ssize_t start, i, count, used = 0, at
    cdef list told = []
    if not len(held) == len(sizes) == len(times):
        raise ValueError("as many names, sizes and times")
    PyObject_GetBuffer(room, &view, PyBUF_WRITABLE)
    try:
        for start in range(0, len(held), RUN):
            count = min(<Py_ssize_t>RUN, len(held) - start)
            at = used
            for i in range(count):
                paths[i] = c_name(held[start + i])
                lengths[i], listed[i] = sizes[start + i], times[start + i]
                if lengths[i] < 0 or lengths[i] > view.len - used:
                    raise ValueError("the room is too small")
                used += lengths[i]
            with nogil:
                for i in range(count):
                    results[i] = read_as_listed(
                        directory, paths[i], <char*>view.buf + at, lengths[i], listed[i]
                    )
                    at += lengths[i]
            for i in range(count):
                told.append(results[i])
    finally:
        PyBuffer_Release(&view)
    return told


cdef int read_as_listed(
    int directory, const char* path, char* into, Py_ssize_t size, long long listed
) noexcept nogil:
    """Return 0, -1 for a file that is not as it was listed or changed while it was read, -2 for one
    that takes less room than it is long, or an errno."""
    cdef status before, after
    cdef Py_ssize_t count = 0
    cdef int error = read_named(directory, path, into, size, &count, &before, &after)
    if error:
        return error
    if not S_ISREG(after.st_mode):
        return ESTALE
    if not (count == size == after.st_size and is_time(&after, listed)):
        return -1
    if not is_as_it_was(&before, &after):
        return -1
    return -2 if <long long>after.st_blocks * SECTOR < size else 0


cdef bint is_as_it_was(const status* before, const status* after) noexcept nogil:
    """Tell whether nothing has changed: the time of that nobody can set back."""
    return (
        before.st_ctim.tv_sec == after.st_ctim.tv_sec
        and before.st_ctim.tv_nsec == after.st_ctim.tv_nsec
    )


cdef bint is_time(const status* found, long long listed) noexcept nogil:
    """Tell whether the time is the listed one; none is that 64 bits of nanoseconds do not hold."""
    cdef time_t seconds = found.st_mtim.tv_sec
    if not (-SECONDS_MAX < seconds < SECONDS_MAX):
        return False
    return <long long>seconds * SECOND + found.st_mtim.tv_nsec == listed


def stage_file(int directory, data, int mode, long long uid, long long gid, mtime_ns):
    cdef Py_buffer view
    cdef timespec times[2]
    cdef bint timed = mtime_ns is not None
    cdef int fd = -1, error
    if not (-1 <= uid <= ID_MAX and -1 <= gid <= ID_MAX):
        raise OverflowError("an owner's number is out of range")
    if timed:
        seconds, rest = divmod(mtime_ns, SECOND)
        times[0].tv_sec = times[1].tv_sec = seconds
        times[0].tv_nsec = times[1].tv_nsec = rest
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            fd = unnamed(directory, mode)
            error = errno if fd < 0 else completed(
                fd, <const char*>view.buf, view.len, mode, uid, gid, times if timed else NULL
            )
            if error and fd >= 0:
                close(fd)
    finally:
        PyBuffer_Release(&view)
    if error:
        raise failure(error, None)
    return fd


cdef struct Staging:
    Py_ssize_t size
    int mode
    long long uid
    long long gid
    bint timed
    timespec times[2]


def stage_files(int directory, data, files):
    cdef tuple held = tuple(files)
    cdef Staging plans[RUN]
    cdef int results[RUN]
    cdef Py_buffer view
    cdef Py_ssize_t start, i, count, used = 0, at
    cdef list told = []
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        for start in range(0, len(held), RUN):
            count = min(<Py_ssize_t>RUN, len(held) - start)
            at = used
            for i in range(count):
                planned(&plans[i], held[start + i])
                if plans[i].size > view.len - used:
                    raise ValueError("the files are larger than the data")
                used += plans[i].size
            with nogil:
                for i in range(count):
                    results[i] = staged(directory, <const char*>view.buf + at, &plans[i])
                    at += plans[i].size
            for i in range(count):
                told.append(results[i])
    except BaseException:
        for fd in told:
            if fd >= 0:
                close(fd)
        raise
    finally:
        PyBuffer_Release(&view)
    return told


cdef int planned(Staging* plan, tuple file) except -1:
    cdef long long time, seconds, rest
    plan.size, plan.mode, plan.uid, plan.gid = file[0], file[1], file[2], file[3]
    plan.timed = file[4] is not None
    if plan.size < 0:
        raise ValueError("a size is negative")
    if not (-1 <= plan.uid <= ID_MAX and -1 <= plan.gid <= ID_MAX):
        raise OverflowError("an owner's number is out of range")
    if plan.timed:
        time = file[4]
        seconds, rest = time // SECOND, time % SECOND
        if rest < 0:  # C's division rounds to zero
            seconds, rest = seconds - 1, rest + SECOND
        plan.times[0].tv_sec = plan.times[1].tv_sec = seconds
        plan.times[0].tv_nsec = plan.times[1].tv_nsec = rest
    return 0


cdef int staged(int directory, const char* data, Staging* plan) noexcept nogil:
    """Return a descriptor, or an errno below zero."""
    cdef int fd = unnamed(directory, plan.mode), error
    if fd < 0:
        return -errno
    error = completed(
        fd, data, plan.size, plan.mode, plan.uid, plan.gid, plan.times if plan.timed else NULL
    )
    if error:
        close(fd)
        return -error
    return fd


cdef int completed(
    int fd, const char* data, Py_ssize_t size, int mode, long long uid, long long gid,
    const timespec* times
) noexcept nogil:
    """Write the content, then set owner, mode and times, in this order.

    What the file has already is not set again: a change of owner cuts set-id bits only, and a
    file that is to get those never has its mode already.
    """
    cdef status found
    cdef Py_ssize_t done = 0, put
    while done < size:
        put = pwrite(fd, data + done, size - done, done)
        if put > 0:
            done += put
        elif put == 0:
            return EIO
        elif errno != EINTR:
            return errno
    if uid != -1 or gid != -1 or mode != -1:
        if fstat(fd, &found):
            return errno
        if uid == found.st_uid:
            uid = -1
        if gid == found.st_gid:
            gid = -1
        if (uid != -1 or gid != -1) and owner_set(fd, <uid_t>uid, <gid_t>gid):
            return errno
        if mode != -1 and mode != <int>(found.st_mode & MODE_BITS) and mode_set(fd, mode):
            return errno
    if times != NULL and futimens(fd, times):
        return errno
    return 0


cdef int owner_set(int fd, uid_t uid, gid_t gid) noexcept nogil:
    cdef int result = fchown(fd, uid, gid)
    while result and errno == EINTR:
        result = fchown(fd, uid, gid)
    return result


cdef int mode_set(int fd, int mode) noexcept nogil:
    cdef int result = fchmod(fd, mode)
    while result and errno == EINTR:
        result = fchmod(fd, mode)
    return result


def link_staged(int fd, int directory, bytes name not None):
    cdef const char* path = c_name(name)
    cdef int error
    with nogil:
        error = linked(fd, directory, path)
    if error:
        raise failure(error, name)


def link_files(int directory, fds, names):
    cdef tuple held = tuple(names)
    cdef const char* paths[RUN]
    cdef int staged_fds[RUN]
    cdef int results[RUN]
    cdef Py_ssize_t start, i, count
    cdef list told = []
    if len(held) != len(fds):
        raise ValueError("as many names as files")
    for start in range(0, len(held), RUN):
        count = min(<Py_ssize_t>RUN, len(held) - start)
        for i in range(count):
            paths[i], staged_fds[i] = c_name(held[start + i]), fds[start + i]
        with nogil:
            for i in range(count):
                results[i] = linked(staged_fds[i], directory, paths[i])
                if not results[i] and close(staged_fds[i]):
                    results[i] = -errno
        for i in range(count):
            told.append(results[i])
    return told


cdef int linked(int fd, int directory, const char* path) noexcept nogil:
    """Link the bare descriptor, which is cheap and may need a capability, or else by /proc.

    ``ENOENT`` may also mean that the directory is gone: only a success by /proc, which then
    made the difference, turns the cheap way off.
    """
    global by_descriptor
    cdef char old[32]
    if by_descriptor:
        if linkat(fd, "", directory, path, AT_EMPTY_PATH) == 0:
            return 0
        if errno != EPERM and errno != ENOENT:
            return errno
    snprintf(old, sizeof(old), "/proc/self/fd/%d", fd)
    if linkat(AT_FDCWD, old, directory, path, AT_SYMLINK_FOLLOW):
        return errno
    by_descriptor = False
    return 0


def stat_entries(int directory, names, bint attributes=False):
    return looked_at(directory, names, attributes, False)


def plain_entries(int directory, names, bint attributes=False):
    return looked_at(directory, names, attributes, True)


cdef list looked_at(int directory, object names, bint attributes, bint as_entries):
    cdef tuple held = tuple(names)  # nobody else can drop a name meanwhile
    cdef const char* paths[RUN]
    cdef status found[RUN]
    cdef int errors[RUN]
    cdef char listed[RUN][XATTR_NAMES]
    cdef Py_ssize_t sizes[RUN]
    cdef Py_ssize_t start, i, count
    cdef list results = []
    for start in range(0, len(held), RUN):
        count = min(<Py_ssize_t>RUN, len(held) - start)
        for i in range(count):
            paths[i] = c_name(held[start + i])
        with nogil:
            for i in range(count):
                errors[i] = 0
                sizes[i] = 0
                if fstatat(directory, paths[i], &found[i], AT_SYMLINK_NOFOLLOW):
                    errors[i] = errno
                elif attributes:
                    sizes[i] = attribute_names(directory, paths[i], listed[i])
        for i in range(count):
            if errors[i]:
                results.append(errors[i])
            elif as_entries and is_plain(&found[i], sizes[i]):
                results.append(entry(held[start + i], &found[i]))
            elif sizes[i] < 0:
                results.append(numbers(&found[i], None))
            else:
                results.append(numbers(&found[i], listed[i][:sizes[i]]))
    return results


cdef bint is_plain(const status* found, Py_ssize_t attributes) noexcept nogil:
    if not -SECONDS_MAX < found.st_mtim.tv_sec < SECONDS_MAX:
        return False
    if S_ISREG(found.st_mode):
        return found.st_nlink == 1 and attributes == 0
    return S_ISDIR(found.st_mode) and attributes == 0


cdef object entry(bytes name, const status* found):
    cdef bint is_file = S_ISREG(found.st_mode)
    return Entry(
        name, FILE if is_file else DIRECTORY, found.st_mode & MODE_BITS, found.st_uid,
        found.st_gid, found.st_size if is_file else 0, nanoseconds(found),
    )


cdef Py_ssize_t attribute_names(int directory, const char* name, char* into) noexcept nogil:
    """Return the bytes of names that an entry has, or -1 if they cannot be told here."""
    global has_listxattrat
    cdef char path[NAME_BYTES + 32]
    cdef Py_ssize_t size
    if has_listxattrat:
        size = syscall(LISTXATTRAT, directory, name, AT_SYMLINK_NOFOLLOW, into, <size_t>XATTR_NAMES)
        if size >= 0:
            return size
        if errno != ENOSYS and errno != EPERM:
            return 0 if errno == EOPNOTSUPP else -1
        has_listxattrat = False
    if snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", directory, name) >= <int>sizeof(path):
        return -1
    size = llistxattr(path, into, XATTR_NAMES)
    if size < 0:
        return 0 if errno == EOPNOTSUPP else -1
    return size


def list_names(int directory):
    cdef char names[NAMES]
    cdef Py_ssize_t at, used
    cdef int fd, error
    cdef DIR* stream = NULL
    cdef list results = []
    with nogil:
        fd = fcntl(directory, F_DUPFD_CLOEXEC, 0)
        if fd >= 0:
            stream = fdopendir(fd)
        error = errno
        if fd >= 0 and stream == NULL:
            close(fd)
    if stream == NULL:
        raise failure(error, None)
    try:
        used = 1
        while used:
            with nogil:
                error = gathered(stream, names, &used)
            if error:
                raise failure(error, None)
            at = 0
            while at < used:
                name = <bytes>(names + at)
                at += len(name) + 1
                results.append(name)
    finally:
        with nogil:
            rewinddir(stream)  # the position is shared with ``directory``
            closedir(stream)
    return results


cdef int gathered(DIR* stream, char* names, Py_ssize_t* used) noexcept nogil:
    """Take names one behind the other, each with its NUL; none at the end."""
    cdef dirent* found
    cdef size_t size
    used[0] = 0
    while used[0] + NAME_BYTES <= NAMES:
        errno_cleared()
        found = readdir(stream)
        if found == NULL:
            return errno
        if found.d_name[0] == c"." and (
            found.d_name[1] == 0 or (found.d_name[1] == c"." and found.d_name[2] == 0)
        ):
            continue
        size = strlen(found.d_name) + 1
        if size > NAME_BYTES:
            return ENAMETOOLONG
        memcpy(names + used[0], found.d_name, size)
        used[0] += size
    return 0


cdef struct Growing:
    char* data
    size_t used
    size_t room


cdef struct Found:  # a subdirectory's record
    size_t index
    size_t offset


cdef struct Packing:
    # what is covered
    uint32_t mode_mask
    uint32_t kinds
    bint owner
    bint group
    bint single_links
    bint no_attributes
    size_t room
    bint whole_modes
    const uint8_t* users
    size_t users_count
    const uint8_t* groups
    size_t groups_count
    # what was found
    Growing names
    Growing order
    Growing records
    Growing directories
    Growing own
    size_t count
    uint64_t total
    uint32_t uids[OWNERS]
    uint32_t gids[OWNERS]
    size_t uids_count
    size_t gids_count
    bint covered
    const volatile uint8_t* stop  # set by another thread; NULL: nobody does


def pack_directory(int directory, coverage, bytes users not None, bytes groups not None):
    cdef Packing packing
    cdef int error
    begun(&packing, coverage, users, groups)
    try:
        with nogil:
            error = packed(directory, &packing)
        if error == ENOMEM:
            raise MemoryError
        if error:
            raise failure(error, None)
        own = names_between(packing.own.data, 0, packing.own.used)
        return told(&packing) if packing.covered else None, own
    finally:
        released(&packing)


cdef int begun(Packing* packing, coverage, bytes users, bytes groups) except -1:
    cdef Growing nothing
    nothing.data, nothing.used, nothing.room = NULL, 0, 0
    packing.mode_mask, packing.kinds = coverage[0], coverage[1]
    packing.owner, packing.group = coverage[2], coverage[3]
    packing.single_links, packing.no_attributes = coverage[4], coverage[5]
    packing.room, packing.whole_modes = coverage[6], coverage[7]
    packing.users = <const uint8_t*>PyBytes_AS_STRING(users)
    packing.users_count = PyBytes_GET_SIZE(users) // 8
    packing.groups = <const uint8_t*>PyBytes_AS_STRING(groups)
    packing.groups_count = PyBytes_GET_SIZE(groups) // 8
    packing.names = packing.order = packing.records = nothing
    packing.directories = packing.own = nothing
    packing.stop = NULL
    emptied(packing)
    return 0


cdef void emptied(Packing* packing) noexcept nogil:
    packing.names.used = packing.order.used = packing.records.used = 0
    packing.directories.used = packing.own.used = 0
    packing.count = packing.uids_count = packing.gids_count = 0
    packing.total = 0
    packing.covered = True


cdef void released(Packing* packing) noexcept nogil:
    free(packing.names.data)
    free(packing.order.data)
    free(packing.records.data)
    free(packing.directories.data)
    free(packing.own.data)


cdef tuple told(Packing* packing):
    cdef Found* found = <Found*>packing.directories.data
    cdef size_t i
    cdef list directories = []
    for i in range(packing.directories.used // sizeof(Found)):
        directories.append((found[i].index, found[i].offset))
    return (
        PyBytes_FromStringAndSize(packing.records.data, packing.records.used),
        packing.count, packing.total, directories,
        [packing.uids[i] for i in range(packing.uids_count)],
        [packing.gids[i] for i in range(packing.gids_count)],
    )


cdef list names_between(const char* data, size_t at, size_t end):
    cdef list names = []
    while at < end:
        name = <bytes>(data + at)
        at += len(name) + 1
        names.append(name)
    return names


cdef int packed(int directory, Packing* packing) noexcept nogil:
    """Read and sort the names, then add a record for each; stop at what is not covered."""
    cdef const char** order
    cdef size_t i, count
    cdef int error = all_names(directory, packing)
    if error:
        return error
    order = <const char**>packing.order.data
    count = packing.order.used // sizeof(char*)
    for i in range(count):  # the names have come to rest: offsets become addresses
        order[i] = packing.names.data + <size_t>order[i]
    qsort(order, count, sizeof(char*), by_name)
    for i in range(count):
        if not is_own(order[i]):
            continue
        error = added(&packing.own, order[i], strlen(order[i]) + 1)
        if error:
            return error
    for i in range(count):
        if is_own(order[i]):
            continue
        if packing.stop != NULL and packing.stop[0]:
            packing.covered = False
            return 0
        error = add_record(directory, order[i], packing)
        if error or not packing.covered:
            return error
    return 0


cdef struct Walked:  # a packed directory of a tree: where its parts end that lie one behind the other
    size_t path
    size_t records
    size_t directories
    size_t owners
    size_t own
    size_t uids_count
    size_t count
    uint64_t total


cdef struct Level:  # a directory that a walk is in: its path's bytes, and which are left to enter
    int fd
    size_t path
    size_t records
    size_t next
    size_t end


cdef struct Walk:
    Packing one  # the directory under way
    size_t room
    Growing paths
    Growing records
    Growing directories
    Growing owners
    Growing own
    Growing walked
    size_t told  # how many of them, and where the last of these ends
    Walked last_told
    char path[NAME_BYTES]
    size_t path_size
    Level levels[LEVELS]
    size_t depth
    bint backwards


cdef class TreeWalk:
    cdef Walk _walk
    cdef int _directory
    cdef tuple _owners
    cdef bint _has_begun
    cdef bint _busy

    def __cinit__(
        self, int directory, coverage, bytes users not None, bytes groups not None, *,
        bint backwards=False,
    ):  # all that is not named here is 0 and NULL
        self._directory = directory
        self._owners = users, groups
        self._walk.backwards = backwards
        begun(&self._walk.one, coverage, users, groups)

    def __dealloc__(self):
        walk_left(&self._walk)
        released(&self._walk.one)
        free(self._walk.paths.data)
        free(self._walk.records.data)
        free(self._walk.directories.data)
        free(self._walk.owners.data)
        free(self._walk.own.data)
        free(self._walk.walked.data)

    def more(self, Py_ssize_t room, stop):
        cdef Walk* walk = &self._walk
        cdef Py_buffer view
        cdef int error = 0
        if self._busy:
            raise RuntimeError("another thread is walking")
        PyObject_GetBuffer(stop, &view, PyBUF_SIMPLE)
        self._busy = True
        try:
            if view.len < 1:
                raise ValueError("the flag needs a byte")
            walk.one.stop = <const volatile uint8_t*>view.buf
            walk.room = walk_bytes(walk) + max(room, 1)
            with nogil:
                if not self._has_begun:
                    error = pack_level(self._directory, walk)
                    self._has_begun = True
                error = error or walk_on(walk)
            if error:
                raise MemoryError
            return directories_of(walk)
        finally:
            self._busy = False
            PyBuffer_Release(&view)


cdef dict directories_of(Walk* walk):
    """Return the directories that were walked since the last time."""
    cdef Walked* each = <Walked*>walk.walked.data
    cdef Found* found = <Found*>walk.directories.data
    cdef uint32_t* owners = <uint32_t*>walk.owners.data
    cdef Walked before = walk.last_told
    cdef size_t number, count = walk.walked.used // sizeof(Walked), i, gids
    cdef dict packed = {}
    for number in range(walk.told, count):
        gids = before.owners + each[number].uids_count
        one = (
            PyBytes_FromStringAndSize(
                walk.records.data + before.records, each[number].records - before.records
            ),
            each[number].count, each[number].total,
            [
                (found[i].index, found[i].offset)
                for i in range(before.directories, each[number].directories)
            ],
            [owners[i] for i in range(before.owners, gids)],
            [owners[i] for i in range(gids, each[number].owners)],
        )
        own = names_between(walk.own.data, before.own, each[number].own)
        packed[walk.paths.data[before.path:each[number].path]] = one, own
        before = each[number]
    walk.told, walk.last_told = count, before
    return packed


cdef int walk_on(Walk* walk) noexcept nogil:
    """Pack what is left of a tree, each directory before those in it, as far as there is room.

    An error is that memory is short. Nothing is left after that, nor after a stop.
    """
    cdef Level* level
    cdef int fd, error = 0
    while walk.depth and not error and not walk.one.stop[0] and walk_bytes(walk) < walk.room:
        level = &walk.levels[walk.depth - 1]
        if level.next < level.end:
            fd = open_next(level, walk)
            if fd >= 0:
                error = pack_level(fd, walk)
        else:
            leave_level(walk)
    if error or walk.one.stop[0]:
        walk_left(walk)
    return error


cdef void walk_left(Walk* walk) noexcept nogil:
    while walk.depth:
        leave_level(walk)


cdef size_t walk_bytes(Walk* walk) noexcept nogil:
    """Return what was walked takes: netsync's own names and paths can be more than the records."""
    return walk.records.used + walk.paths.used + walk.own.used


cdef void leave_level(Walk* walk) noexcept nogil:
    walk.depth -= 1
    if walk.depth:  # the first is the caller's
        close(walk.levels[walk.depth].fd)


cdef int open_next(Level* level, Walk* walk) noexcept nogil:
    """Open the next directory in one, and make its path the walk's; -1 if it cannot be entered."""
    cdef Found* found = <Found*>walk.directories.data
    cdef const char* record
    cdef uint16_t size
    cdef size_t at = level.path
    if walk.backwards:
        level.end -= 1
        found += level.end
    else:
        found += level.next
        level.next += 1
    record = walk.records.data + level.records + found.offset
    memcpy(&size, record + RECORD - 4, sizeof(size))
    if at + size + 2 > NAME_BYTES:
        return -1
    if at:
        walk.path[at] = c"/"
        at += 1
    memcpy(walk.path + at, record + RECORD, size)
    walk.path_size = at + size
    walk.path[walk.path_size] = 0
    return opened(level.fd, walk.path + at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)


cdef int pack_level(int fd, Walk* walk) noexcept nogil:
    """Pack an open directory, and be in it if there are any to enter; else close it."""
    cdef Level* level = &walk.levels[walk.depth]
    cdef size_t records = walk.records.used
    cdef size_t found = walk.directories.used // sizeof(Found)
    cdef int error
    emptied(&walk.one)
    error = packed(fd, &walk.one)
    if not error and walk.one.covered and not walk.one.stop[0]:
        error = keep_packed(walk)
        if not error and walk.one.directories.used and walk.depth < LEVELS - 1:
            level.fd, level.path, level.records = fd, walk.path_size, records
            level.next, level.end = found, walk.directories.used // sizeof(Found)
            walk.depth += 1
            return 0
    if walk.depth:
        close(fd)
    return ENOMEM if error == ENOMEM else 0


cdef int keep_packed(Walk* walk) noexcept nogil:
    """Add the directory under way to what was walked."""
    cdef Packing* one = &walk.one
    cdef Walked end
    cdef int error = added(&walk.paths, walk.path, walk.path_size)
    error = error or added(&walk.records, one.records.data, one.records.used)
    error = error or added(&walk.directories, one.directories.data, one.directories.used)
    error = error or added(&walk.owners, <char*>one.uids, one.uids_count * sizeof(uint32_t))
    error = error or added(&walk.owners, <char*>one.gids, one.gids_count * sizeof(uint32_t))
    error = error or added(&walk.own, one.own.data, one.own.used)
    end.own = walk.own.used
    end.path, end.records = walk.paths.used, walk.records.used
    end.directories = walk.directories.used // sizeof(Found)
    end.owners = walk.owners.used // sizeof(uint32_t)
    end.uids_count, end.count, end.total = one.uids_count, one.count, one.total
    return error or added(&walk.walked, <char*>&end, sizeof(end))


cdef int all_names(int directory, Packing* packing) noexcept nogil:
    """Take every name of a directory as the kernel tells them, and note where each begins.

    A stream of the library's would cost five more system calls, which is half of all that a small
    directory costs.
    """
    cdef long taken
    cdef int error = 0
    while not error and (packing.stop == NULL or not packing.stop[0]):
        error = made_room(&packing.names, NAMES)
        if error:
            break
        taken = syscall(
            SYS_getdents64, directory, packing.names.data + packing.names.used, <size_t>NAMES
        )
        if taken < 0:
            error = errno
        if taken <= 0:
            break
        error = note_names(packing, packing.names.used, packing.names.used + taken)
        packing.names.used += taken
    lseek(directory, 0, SEEK_SET)  # the position is shared with whoever holds the directory
    return error


cdef int note_names(Packing* packing, size_t at, size_t end) noexcept nogil:
    """Note the names in the kernel's entries from ``at``, but for the directory and its parent."""
    cdef const char* name
    cdef size_t name_at
    cdef uint16_t size
    cdef int error
    while at < end:
        memcpy(&size, packing.names.data + at + DIRENT_SIZE, sizeof(size))
        name_at = at + DIRENT_NAME
        name = packing.names.data + name_at
        at += size
        if strcmp(name, ".") == 0 or strcmp(name, "..") == 0:
            continue
        error = added(&packing.order, <char*>&name_at, sizeof(name_at))
        if error:
            return error
    return 0


cdef int by_name(const void* one, const void* other) noexcept nogil:
    return strcmp((<const char**>one)[0], (<const char**>other)[0])


cdef bint is_own(const char* name) noexcept nogil:
    """Tell whether a name is netsync's own, as ``netsync.names.is_reserved`` does."""
    return strncmp(name, ".netsync", 8) == 0 and strcmp(name, ".netsyncignore") != 0


cdef int add_record(int directory, const char* name, Packing* packing) noexcept nogil:
    cdef status found
    cdef char text[LINK_TEXT]
    cdef Py_ssize_t text_size = 0
    cdef size_t size = strlen(name)
    cdef Found subdirectory
    cdef uint32_t uid, gid
    cdef int kind, error
    packing.covered = False
    if strcmp(name, ".netsyncignore") == 0:
        return 0
    if fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW):
        return 0
    kind = kind_of(found.st_mode)
    if not covers(directory, name, &found, kind, packing):
        return 0
    if kind == 3:
        text_size = readlinkat(directory, name, text, LINK_TEXT)
        if text_size <= 0 or text_size >= LINK_TEXT:
            return 0
    uid = translated(found.st_uid, packing.users, packing.users_count) if packing.owner else 0
    gid = translated(found.st_gid, packing.groups, packing.groups_count) if packing.group else 0
    if not noted(uid, packing.uids, &packing.uids_count):
        return 0
    if not noted(gid, packing.gids, &packing.gids_count):
        return 0
    if packing.records.used + RECORD + size + text_size > packing.room:
        return 0
    if kind == 2:
        subdirectory.index, subdirectory.offset = packing.count, packing.records.used
        error = added(&packing.directories, <char*>&subdirectory, sizeof(Found))
        if error:
            return error
    error = made_room(&packing.records, RECORD + size + text_size)
    if error:
        return error
    put(packing, (found.st_mode & ~<uint32_t>0o7777) | (found.st_mode & packing.mode_mask), 4)
    put(packing, uid, 4)
    put(packing, gid, 4)
    put(packing, found.st_size if kind == 1 else 0, 8)
    put(packing, <uint64_t>(<int64_t>found.st_mtim.tv_sec * SECOND + found.st_mtim.tv_nsec), 8)
    put(packing, found.st_rdev if kind >= 6 else 0, 8)
    put(packing, size, 2)
    put(packing, text_size, 2)
    memcpy(packing.records.data + packing.records.used, name, size)
    memcpy(packing.records.data + packing.records.used + size, text, text_size)
    packing.records.used += size + text_size
    packing.count += 1
    packing.total += found.st_size if kind == 1 else 0
    packing.covered = True
    return 0


cdef bint covers(
    int directory, const char* name, const status* found, int kind, Packing* packing
) noexcept nogil:
    cdef char attributes[XATTR_NAMES]
    if not packing.kinds >> kind & 1:
        return False
    if packing.whole_modes and found.st_mode & MODE_BITS & ~packing.mode_mask:
        return False
    if not -SECONDS_MAX < found.st_mtim.tv_sec < SECONDS_MAX:
        return False
    if kind != 2 and packing.single_links and found.st_nlink != 1:
        return False
    return not packing.no_attributes or attribute_names(directory, name, attributes) == 0


cdef int kind_of(mode_t mode) noexcept nogil:
    """Return the number of ``netsync.model.Kind``, 0 for none of them."""
    if S_ISREG(mode):
        return 1
    if S_ISDIR(mode):
        return 2
    if S_ISLNK(mode):
        return 3
    if S_ISFIFO(mode):
        return 4
    if S_ISSOCK(mode):
        return 5
    if S_ISCHR(mode):
        return 6
    return 7 if S_ISBLK(mode) else 0


cdef uint32_t translated(uint32_t number, const uint8_t* pairs, size_t count) noexcept nogil:
    """Return what sorted ``pairs`` make of a number; by itself it stays."""
    cdef size_t low = 0, high = count, middle
    cdef uint32_t here
    while low < high:
        middle = (low + high) // 2
        here = little(pairs + 8 * middle)
        if here == number:
            return little(pairs + 8 * middle + 4)
        if here < number:
            low = middle + 1
        else:
            high = middle
    return number


cdef uint32_t little(const uint8_t* at) noexcept nogil:
    return (
        at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24
    )


cdef bint noted(uint32_t number, uint32_t* numbers, size_t* count) noexcept nogil:
    """Add a number to a set of few; False if it is full."""
    cdef size_t i
    for i in range(count[0]):
        if numbers[i] == number:
            return True
    if count[0] == OWNERS:
        return False
    numbers[count[0]] = number
    count[0] += 1
    return True


cdef void put(Packing* packing, uint64_t value, int size) noexcept nogil:
    """Add an integer, little-endian; the caller has made room."""
    cdef int i
    for i in range(size):
        packing.records.data[packing.records.used] = <char>(value >> (8 * i) & 0xFF)
        packing.records.used += 1


cdef int added(Growing* to, const char* data, size_t size) noexcept nogil:
    cdef int error = made_room(to, size)
    if not error:
        memcpy(to.data + to.used, data, size)
        to.used += size
    return error


cdef int made_room(Growing* buffer, size_t more) noexcept nogil:
    cdef size_t room = buffer.room
    cdef char* moved
    if buffer.used + more <= room:
        return 0
    room = max(2 * room, buffer.used + more)
    moved = <char*>realloc(buffer.data, room)
    if moved == NULL:
        return ENOMEM
    buffer.data, buffer.room = moved, room
    return 0


cdef void errno_cleared() noexcept nogil:
    """``readdir`` tells its end from an error by errno alone."""
    global errno
    errno = 0


cdef tuple numbers(const status* found, object attributes):
    return (
        found.st_mode, found.st_uid, found.st_gid, found.st_size, nanoseconds(found),
        found.st_rdev, found.st_nlink, found.st_dev, found.st_ino, found.st_blocks, attributes,
    )


cdef object nanoseconds(const status* found):
    cdef time_t seconds = found.st_mtim.tv_sec
    if -SECONDS_MAX < seconds < SECONDS_MAX:
        return <long long>seconds * SECOND + found.st_mtim.tv_nsec
    return <object>seconds * SECOND + found.st_mtim.tv_nsec


cdef int unnamed(int directory, int mode) noexcept nogil:
    """Open an unnamed file, with ``mode`` as far as the umask and ACLs let a new file have it."""
    return made(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, PRIVATE if mode == -1 else mode)


cdef int opened(int directory, const char* path, int flags) noexcept nogil:
    return made(directory, path, flags, PRIVATE)


cdef int made(int directory, const char* path, int flags, int mode) noexcept nogil:
    cdef int fd = openat(directory, path, flags, <mode_t>(mode & PERMISSIONS))
    while fd < 0 and errno == EINTR:
        fd = openat(directory, path, flags, <mode_t>(mode & PERMISSIONS))
    return fd


cdef const char* c_name(bytes name) except NULL:
    """Return a name for the kernel; what it would take for a shorter one is refused."""
    if name is None:
        raise TypeError("a name must be bytes")
    cdef const char* path = PyBytes_AS_STRING(name)
    if <Py_ssize_t>strlen(path) != PyBytes_GET_SIZE(name):
        raise ValueError("embedded null byte")
    return path


cdef object failure(int error, name):
    return OSError(error, os.strerror(error), name)
