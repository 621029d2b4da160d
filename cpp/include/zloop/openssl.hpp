// The OpenSSL library that another module of this process uses, found through the symbols of that module.
//
// The build needs no OpenSSL header and links no OpenSSL library: load() looks functions up by name and fills a table.
// Every result is verified before it is used, because the module may contain a library of its own, hide its symbols, or
// have an unknown object layout. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>

// OpenSSL's names of its types, which are opaque here.
struct bio_st;
struct bio_method_st;
struct ssl_st;
struct ssl_ctx_st;
struct ssl_method_st;

namespace zloop {

// Owns nothing; the library stays loaded for the life of the process.
struct OpenSsl {
  // The table for the library that the module in file `path` uses. nullptr: the module is not loaded, or a function is
  // missing. There is one table per process: the first call decides.
  static const OpenSsl* load(const char* path) noexcept;

  // NOLINTBEGIN(readability-identifier-naming): OpenSSL's names; its manual documents each function
  unsigned long (*OpenSSL_version_num)();
  unsigned long (*ERR_peek_last_error)();
  const char* (*ERR_reason_error_string)(unsigned long error);
  void (*ERR_clear_error)();

  const bio_method_st* (*BIO_s_mem)();
  int (*BIO_get_new_index)();
  bio_method_st* (*BIO_meth_new)(int type, const char* name);
  int (*BIO_meth_set_write_ex)(bio_method_st*, int (*)(bio_st*, const char*, std::size_t, std::size_t*));
  int (*BIO_meth_set_read_ex)(bio_method_st*, int (*)(bio_st*, char*, std::size_t, std::size_t*));
  int (*BIO_meth_set_ctrl)(bio_method_st*, long (*)(bio_st*, int, long, void*));
  bio_st* (*BIO_new)(const bio_method_st*);
  int (*BIO_up_ref)(bio_st*);
  int (*BIO_free)(bio_st*);
  void (*BIO_set_data)(bio_st*, void*);
  void* (*BIO_get_data)(bio_st*);
  void (*BIO_set_init)(bio_st*, int);
  void (*BIO_set_flags)(bio_st*, int);
  void (*BIO_clear_flags)(bio_st*, int);

  const ssl_method_st* (*TLS_method)();
  const ssl_method_st* (*TLS_client_method)();
  const ssl_method_st* (*TLS_server_method)();
  const ssl_method_st* (*SSL_CTX_get_ssl_method)(const ssl_ctx_st*);
  std::uint64_t (*SSL_CTX_get_options)(const ssl_ctx_st*);
  int (*SSL_CTX_get_verify_mode)(const ssl_ctx_st*);
  int (*SSL_CTX_get_security_level)(const ssl_ctx_st*);

  ssl_ctx_st* (*SSL_get_SSL_CTX)(const ssl_st*);
  bio_st* (*SSL_get_rbio)(const ssl_st*);
  bio_st* (*SSL_get_wbio)(const ssl_st*);
  void (*SSL_set_bio)(ssl_st*, bio_st*, bio_st*);
  int (*SSL_is_server)(const ssl_st*);
  int (*SSL_do_handshake)(ssl_st*);
  int (*SSL_read_ex)(ssl_st*, void*, std::size_t, std::size_t*);
  int (*SSL_write_ex)(ssl_st*, const void*, std::size_t, std::size_t*);
  int (*SSL_get_error)(const ssl_st*, int);
  int (*SSL_get_shutdown)(const ssl_st*);
  int (*SSL_pending)(const ssl_st*);
  int (*SSL_has_pending)(const ssl_st*);
  // NOLINTEND(readability-identifier-naming)
};

// ---- Search for OpenSSL objects in an object of a module. `object` is `size` bytes of readable memory. What its
// pointers point to is read by a system call, so that an invalid pointer does no harm. Each function returns the offset
// of the pointer in the object, or -1.

// Finds a pointer to a memory BIO of this library.
std::ptrdiff_t find_memory_bio(const OpenSsl& openssl, const void* object, std::size_t size) noexcept;

// Finds a pointer to an SSL that reads from `source` and writes to `sink`.
std::ptrdiff_t find_ssl(const OpenSsl& openssl, const void* object, std::size_t size, const bio_st* source,
                        const bio_st* sink) noexcept;

// Finds `pointer` itself.
std::ptrdiff_t find_pointer(const void* object, std::size_t size, const void* pointer) noexcept;

// The pointer at an offset that one of the above returned.
inline void* pointer_at(const void* object, std::ptrdiff_t offset) noexcept {
  return *reinterpret_cast<void* const*>(static_cast<const char*>(object) + offset);
}

// True if the context's method is one of this library's methods for any version of TLS: TLS_method() or its client or
// server variant.
bool has_tls_method(const OpenSsl& openssl, const ssl_ctx_st* context) noexcept;

}  // namespace zloop
