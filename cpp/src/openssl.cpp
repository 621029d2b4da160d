#include "zloop/openssl.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <span>

#include "zloop/sys.hpp"

namespace zloop {

namespace {

template <typename Function>
bool find(void* module, const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(dlsym(module, name));
  return function != nullptr;
}

// The two halves of the table; each stops at the first missing function.
bool find_bio_functions(void* module, OpenSsl& table) noexcept {
  return find(module, "OpenSSL_version_num", table.OpenSSL_version_num) &&
         find(module, "ERR_peek_last_error", table.ERR_peek_last_error) &&
         find(module, "ERR_reason_error_string", table.ERR_reason_error_string) &&
         find(module, "ERR_clear_error", table.ERR_clear_error) && find(module, "BIO_s_mem", table.BIO_s_mem) &&
         find(module, "BIO_get_new_index", table.BIO_get_new_index) &&
         find(module, "BIO_meth_new", table.BIO_meth_new) &&
         find(module, "BIO_meth_set_write_ex", table.BIO_meth_set_write_ex) &&
         find(module, "BIO_meth_set_read_ex", table.BIO_meth_set_read_ex) &&
         find(module, "BIO_meth_set_ctrl", table.BIO_meth_set_ctrl) && find(module, "BIO_new", table.BIO_new) &&
         find(module, "BIO_up_ref", table.BIO_up_ref) && find(module, "BIO_free", table.BIO_free) &&
         find(module, "BIO_set_data", table.BIO_set_data) && find(module, "BIO_get_data", table.BIO_get_data) &&
         find(module, "BIO_set_init", table.BIO_set_init) && find(module, "BIO_set_flags", table.BIO_set_flags) &&
         find(module, "BIO_clear_flags", table.BIO_clear_flags);
}

bool find_ssl_functions(void* module, OpenSsl& table) noexcept {
  return find(module, "TLS_method", table.TLS_method) && find(module, "TLS_client_method", table.TLS_client_method) &&
         find(module, "TLS_server_method", table.TLS_server_method) &&
         find(module, "SSL_CTX_get_ssl_method", table.SSL_CTX_get_ssl_method) &&
         find(module, "SSL_CTX_get_options", table.SSL_CTX_get_options) &&
         find(module, "SSL_CTX_get_verify_mode", table.SSL_CTX_get_verify_mode) &&
         find(module, "SSL_CTX_get_security_level", table.SSL_CTX_get_security_level) &&
         find(module, "SSL_get_SSL_CTX", table.SSL_get_SSL_CTX) && find(module, "SSL_get_rbio", table.SSL_get_rbio) &&
         find(module, "SSL_get_wbio", table.SSL_get_wbio) && find(module, "SSL_set_bio", table.SSL_set_bio) &&
         find(module, "SSL_is_server", table.SSL_is_server) &&
         find(module, "SSL_do_handshake", table.SSL_do_handshake) && find(module, "SSL_read_ex", table.SSL_read_ex) &&
         find(module, "SSL_write_ex", table.SSL_write_ex) && find(module, "SSL_get_error", table.SSL_get_error) &&
         find(module, "SSL_get_shutdown", table.SSL_get_shutdown) && find(module, "SSL_pending", table.SSL_pending) &&
         find(module, "SSL_has_pending", table.SSL_has_pending);
}

// dlsym() searches the module, then the libraries that it is linked with, in the order in which the module's own
// symbols were bound.
bool fill(const char* path, OpenSsl& table) noexcept {
  void* module = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (module == nullptr) return false;
  const bool complete = find_bio_functions(module, table) && find_ssl_functions(module, table);
  if (!complete) dlclose(module);
  return complete;  // the handle is kept, so that the library stays loaded
}

// Copies up to words.size() words from an address that may be invalid, and returns their number. The kernel reads the
// memory: it returns an error where an access by the process would crash.
std::size_t read_words(const void* address, std::span<std::uintptr_t> words) noexcept {
  int read_end = -1;
  int write_end = -1;
  if (sys::open_pipe(&read_end, &write_end) < 0) return 0;
  ssize_t count = sys::write_unchecked(write_end, address, words.size_bytes());
  if (count > 0) count = sys::read(read_end, words.data(), words.size_bytes());
  sys::close(read_end);
  sys::close(write_end);
  return count > 0 ? static_cast<std::size_t>(count) / sizeof(std::uintptr_t) : 0;
}

// The offset of the first pointer in the object for which recognize(words) is true, where `words` are what the pointer
// points to. -1 if there is none.
template <std::size_t WordsMax, typename Recognize>
std::ptrdiff_t find_object(const void* object, std::size_t size, Recognize recognize) noexcept {
  std::array<std::uintptr_t, WordsMax> words{};
  for (std::size_t offset = 0; offset + sizeof(void*) <= size; offset += sizeof(void*)) {
    const void* candidate = pointer_at(object, static_cast<std::ptrdiff_t>(offset));
    const bool aligned = reinterpret_cast<std::uintptr_t>(candidate) % alignof(void*) == 0;
    if (candidate == nullptr || candidate == object || !aligned) continue;
    const std::size_t count = read_words(candidate, words);
    if (recognize(std::span(words).first(count))) return static_cast<std::ptrdiff_t>(offset);
  }
  return -1;
}

}  // namespace

const OpenSsl* OpenSsl::load(const char* path) noexcept {
  static OpenSsl table{};
  static const bool complete = fill(path, table);
  return complete ? &table : nullptr;
}

// A BIO has a pointer to its method near its beginning (OpenSSL 1.1: the first word; 3: the second).
std::ptrdiff_t find_memory_bio(const OpenSsl& openssl, const void* object, std::size_t size) noexcept {
  const auto method = reinterpret_cast<std::uintptr_t>(openssl.BIO_s_mem());
  return find_object<8>(object, size, [&](std::span<const std::uintptr_t> words) {
    return std::ranges::find(words, method) != words.end();
  });
}

// An SSL has pointers to its two BIOs in adjacent words (OpenSSL 3.0: from the third word on; 3.2: from the eleventh).
std::ptrdiff_t find_ssl(const OpenSsl& openssl, const void* object, std::size_t size, const bio_st* source,
                        const bio_st* sink) noexcept {
  const auto first = reinterpret_cast<std::uintptr_t>(source);
  const auto second = reinterpret_cast<std::uintptr_t>(sink);
  const std::ptrdiff_t offset = find_object<32>(object, size, [&](std::span<const std::uintptr_t> words) {
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      if (words[i] == first && words[i + 1] == second) return true;
    }
    return false;
  });
  if (offset < 0) return -1;
  const auto* ssl = static_cast<const ssl_st*>(pointer_at(object, offset));
  return openssl.SSL_get_rbio(ssl) == source && openssl.SSL_get_wbio(ssl) == sink ? offset : -1;
}

std::ptrdiff_t find_pointer(const void* object, std::size_t size, const void* pointer) noexcept {
  for (std::size_t offset = 0; offset + sizeof(void*) <= size; offset += sizeof(void*)) {
    if (pointer_at(object, static_cast<std::ptrdiff_t>(offset)) == pointer) return static_cast<std::ptrdiff_t>(offset);
  }
  return -1;
}

bool has_tls_method(const OpenSsl& openssl, const ssl_ctx_st* context) noexcept {
  const ssl_method_st* method = openssl.SSL_CTX_get_ssl_method(context);
  return method == openssl.TLS_method() || method == openssl.TLS_client_method() ||
         method == openssl.TLS_server_method();
}

}  // namespace zloop
