# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Moves the records of a TLS connection in C, with one release of the interpreter's lock.

Theory of operation
-------------------
Python's ``ssl`` makes the connection, shakes hands and verifies; here only ``SSL_read_ex`` and
``SSL_write_ex`` are called on it, until all is moved or the socket is drained or full. For that we
need what Python does not offer: the connection's ``SSL*`` and OpenSSL's functions.

*The functions* are looked up in the library of the module ``_ssl`` itself, which is loaded
already, and so in the OpenSSL that it is linked with. Nothing is linked when we are built, and no
other OpenSSL is ever loaded. If one that came in otherwise would go first for ``_ssl`` (a
preloaded one), if the version found is not the one that Python's ``ssl`` says, or if it is not
OpenSSL 3, none is used.

*The pointer* is the second field of CPython's ``_ssl._SSLSocket`` object, behind a weak reference
to the socket, in 3.11 to 3.14 alike; other versions are not trusted. The first field is compared
with the one weak reference that Python keeps of the socket, so the object is laid out as we believe
before anything is followed. Then the pointer must give back the object, which CPython notes
there, and the socket's descriptor. ``take`` returns None where anything is not so. The object
is held, and it frees the pointer only when it goes. The descriptor's number is compared anew each
time: one that a closed socket left behind may name another.

*Errors* are Python's to tell. OpenSSL says right after each call what stopped it, and what that
was is known here before anybody else is asked: a failure is never taken for an end, nor for a
socket that is drained. Its details stay in this thread's queue, which OpenSSL asks first, so the
same call by way of Python raises what it would have raised at once. Only a failed system call
leaves none there, and is an ``OSError`` made here, as Python makes it (before 3.12.3 it took each
for the end of file). Were Python to find nothing wrong, it would be an ``SSLError`` all the same.
An end is one if Python sees it too.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.errno cimport EBADF, errno

import os
import platform
import ssl
import sys
import weakref

import _ssl

from netsync.net.records import ENDED, FAILED, MOVED, WANTS_READ, WANTS_WRITE

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *socket; /* a weak reference */
        void *ssl;
    } netsync_SSLSocket;
    #ifdef Py_GIL_DISABLED
    #define NETSYNC_HAS_GIL 0
    #else
    #define NETSYNC_HAS_GIL 1
    #endif
    """
    ctypedef struct SSLSocket "netsync_SSLSocket":
        PyObject* socket
        void* ssl
    bint HAS_GIL "NETSYNC_HAS_GIL"

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* name, int how)
    void* dlsym(void* library, const char* name)
    int RTLD_LAZY
    int RTLD_NOLOAD
    void* RTLD_DEFAULT

ctypedef int (*Move)(void* connection, void* data, size_t size, size_t* moved) noexcept nogil
ctypedef int (*GetError)(const void* connection, int result) noexcept nogil
ctypedef void (*ClearErrors)() noexcept nogil
ctypedef int (*GetDescriptor)(const void* connection) noexcept nogil
ctypedef void* (*GetData)(const void* connection, int index) noexcept nogil
ctypedef unsigned long (*GetVersion)() noexcept nogil

cdef struct OpenSSL:
    Move read
    Move write
    GetError get_error
    ClearErrors clear_errors
    GetDescriptor get_descriptor
    GetData get_data
    GetVersion get_version

cdef enum:
    # These are OpenSSL's figures, and so those of ``records``.
    SSL_ERROR_NONE = 0
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_WANT_WRITE = 3
    SSL_ERROR_SYSCALL = 5

cdef OpenSSL openssl


cdef void* _find(void* library, const char* name) except NULL:
    """Return a function of ``library`` or what it is linked with."""
    cdef void* found = dlsym(library, name)
    cdef void* first = dlsym(RTLD_DEFAULT, name)
    if found == NULL or (first != NULL and first != found):
        raise LookupError(name)
    return found


cdef bint _load() except -1:
    """Find OpenSSL's functions; tell whether all is as it must be for using them."""
    cdef void* library
    known = (3, 11) <= sys.version_info[:2] <= (3, 14)
    if not HAS_GIL or not known or platform.python_implementation() != "CPython":
        return False
    path = os.fsencode(getattr(_ssl, "__file__", None) or "")
    library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD) if path else NULL
    if library == NULL:
        return False
    try:
        openssl.read = <Move>_find(library, "SSL_read_ex")
        openssl.write = <Move>_find(library, "SSL_write_ex")
        openssl.get_error = <GetError>_find(library, "SSL_get_error")
        openssl.clear_errors = <ClearErrors>_find(library, "ERR_clear_error")
        openssl.get_descriptor = <GetDescriptor>_find(library, "SSL_get_fd")
        openssl.get_data = <GetData>_find(library, "SSL_get_ex_data")
        openssl.get_version = <GetVersion>_find(library, "OpenSSL_version_num")
    except LookupError:
        return False
    return openssl.get_version() == ssl.OPENSSL_VERSION_NUMBER and ssl.OPENSSL_VERSION_INFO[0] == 3


cdef bint _trusted = _load()

NAME = "compiled" if _trusted else "pure"


cdef class CompiledRecords:
    """The records of one connection; ``records.Records`` says what the methods mean."""

    cdef object _socket
    cdef object _object
    cdef void* _connection

    def __cinit__(self, sock):
        self._socket = sock
        self._object = sock._sslobj
        self._connection = NULL

    cdef bint _begin(self) except -1:
        """Take the pointer; tell whether the object is what we believe."""
        cdef SSLSocket* inside = <SSLSocket*><PyObject*>self._object
        reference = weakref.ref(self._socket)
        if type(self._object) is not _ssl._SSLSocket or inside.socket != <PyObject*>reference:
            return False
        if inside.ssl == NULL or openssl.get_data(inside.ssl, 0) != <void*>self._object:
            return False
        self._connection = inside.ssl
        return openssl.get_descriptor(inside.ssl) == self._socket.fileno()

    def write(self, data):
        done, stopped, code = self._move(openssl.write, data, PyBUF_SIMPLE)
        if stopped in (MOVED, WANTS_READ, WANTS_WRITE):
            return done, stopped, None
        rest = memoryview(data)[done:]
        return done, FAILED, self._failure(self._socket.send, rest, stopped, code)

    def read(self, buffer):
        done, stopped, code = self._move(openssl.read, buffer, PyBUF_WRITABLE)
        if stopped in (MOVED, WANTS_READ, WANTS_WRITE):
            return done, stopped, None
        error = self._failure(self._socket.recv_into, buffer[done:], stopped, code)
        return done, ENDED if error is None else FAILED, error

    cdef tuple _move(self, Move move, buffer, int how):
        """Return how many bytes were moved, what stopped it, and ``errno`` of that moment."""
        cdef Py_buffer view
        cdef void* connection = self._connection
        cdef size_t done = 0, count
        cdef int stopped = SSL_ERROR_NONE, code = 0
        if openssl.get_descriptor(connection) != self._socket.fileno():
            return 0, SSL_ERROR_SYSCALL, EBADF  # as Python says of a closed socket
        PyObject_GetBuffer(buffer, &view, how)
        with nogil:
            openssl.clear_errors()  # ``get_error`` would take an older one for ours
            while done < <size_t>view.len:
                count = 0
                if move(connection, <char*>view.buf + done, view.len - done, &count) != 1:
                    code = errno
                    stopped = openssl.get_error(connection, 0)
                    break
                done += count
        PyBuffer_Release(&view)
        return done, stopped, code

    def _failure(self, call, rest, int stopped, int code):
        """Return what Python says of it; None if that is an end, and OpenSSL said so too."""
        if stopped == SSL_ERROR_SYSCALL and code:
            return OSError(code, os.strerror(code))
        try:
            count = call(rest)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            return error
        else:
            if count == 0 and stopped == ENDED:
                return None
        return ssl.SSLError(FAILED, f"OpenSSL failed ({stopped}), and does not say how")


def take(sock):
    """Return what moves the records of ``sock``, or None if anything is not as we believe."""
    if not _trusted or not isinstance(sock, ssl.SSLSocket):
        return None
    records = CompiledRecords(sock)
    return records if (<CompiledRecords>records)._begin() else None
