from libc.stdint cimport uint64_t

cdef extern from "zloop/openssl.hpp" nogil:
    struct bio_st:
        pass
    struct ssl_st:
        pass
    struct ssl_ctx_st:
        pass

cdef extern from "zloop/openssl.hpp" namespace "zloop":
    cdef cppclass OpenSsl:
        @staticmethod
        const OpenSsl* load(const char* path) noexcept

        unsigned long (*OpenSSL_version_num)() noexcept
        unsigned long (*ERR_peek_last_error)() noexcept
        const char* (*ERR_reason_error_string)(unsigned long error) noexcept
        void (*ERR_clear_error)() noexcept
        uint64_t (*SSL_CTX_get_options)(const ssl_ctx_st*) noexcept
        int (*SSL_CTX_get_verify_mode)(const ssl_ctx_st*) noexcept
        int (*SSL_CTX_get_security_level)(const ssl_ctx_st*) noexcept
        ssl_ctx_st* (*SSL_get_SSL_CTX)(const ssl_st*) noexcept
        bio_st* (*SSL_get_rbio)(const ssl_st*) noexcept
        bio_st* (*SSL_get_wbio)(const ssl_st*) noexcept
        int (*SSL_is_server)(const ssl_st*) noexcept

    Py_ssize_t find_memory_bio(const OpenSsl& openssl, const void* object, size_t size) noexcept
    Py_ssize_t find_ssl(
        const OpenSsl& openssl, const void* object, size_t size, const bio_st* source, const bio_st* sink) noexcept
    Py_ssize_t find_pointer(const void* object, size_t size, const void* pointer) noexcept
    void* pointer_at(const void* object, Py_ssize_t offset) noexcept
    bint has_tls_method(const OpenSsl& openssl, const ssl_ctx_st* context) noexcept
