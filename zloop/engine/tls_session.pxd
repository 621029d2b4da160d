from libcpp cimport bool as cpp_bool

from zloop.engine.openssl cimport OpenSsl, ssl_st

cdef extern from "zloop/tls_session.hpp" namespace "zloop":
    const ssize_t session_failed "zloop::TlsSession::failed"
    const ssize_t session_want_read "zloop::TlsSession::want_read"

    cdef cppclass TlsSession:
        TlsSession() noexcept
        cpp_bool open(const OpenSsl& openssl, ssl_st* ssl) noexcept
        void feed(const char* data, size_t size) except +
        void retain() except +
        size_t unread() noexcept
        cpp_bool readable() noexcept
        size_t readable_max() noexcept
        ssize_t do_handshake() nogil
        ssize_t read(char* data, size_t size) noexcept
        ssize_t write(const char* data, size_t size) noexcept

        @staticmethod
        size_t ciphertext_size_max(size_t size) noexcept
        void lend(char* memory, size_t capacity) noexcept
        size_t take_back() noexcept
        const char* output() noexcept
        size_t output_size() noexcept
        void clear_output() noexcept
        cpp_bool output_lost() noexcept
