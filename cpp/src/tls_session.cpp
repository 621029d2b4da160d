#include "zloop/tls_session.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

namespace zloop {

namespace {

// From openssl/bio.h and openssl/ssl.h: part of OpenSSL's binary interface since 1.1.
constexpr int bio_type_source_sink = 0x0400;
constexpr int bio_flags_read_again = 0x01 | 0x08;
constexpr int bio_flags_all_again = 0x0F;
constexpr int bio_ctrl_pending = 10;
constexpr int bio_ctrl_flush = 11;
constexpr int ssl_error_want_read = 2;
constexpr int ssl_error_want_write = 3;
constexpr int ssl_error_zero_return = 6;
constexpr int ssl_received_shutdown = 2;

// True for a record header (RFC 8446, 5.1 and 5.2): the content type, the version, which may be any of TLS, and the
// size.
bool begins_record(const unsigned char* header) noexcept {
  const unsigned size = (unsigned{header[3]} << 8U) + header[4];
  return header[0] >= 20 && header[0] <= 24 && header[1] == 3 && header[2] <= 4 && size <= 16384 + 2048;
}

// Larger buffers are freed after use.
constexpr std::size_t idle_capacity_max = 4096;

void clear_vector(std::vector<char>& bytes) noexcept {
  bytes.clear();
  if (bytes.capacity() > idle_capacity_max) std::vector<char>().swap(bytes);
}

}  // namespace

// The functions of the BIO, which OpenSSL calls. The BIO's data is its session, or null if the session was destroyed.
struct TlsSessionBio {
  static inline const OpenSsl* openssl = nullptr;  // static; one per process, set by make_method()

  static TlsSession* session_of(bio_st* bio) noexcept { return static_cast<TlsSession*>(openssl->BIO_get_data(bio)); }

  // The flags matter only after a failure: they decide whether a retry makes sense.
  static int write(bio_st* bio, const char* data, std::size_t size, std::size_t* written) noexcept {
    TlsSession* session = session_of(bio);
    if (session != nullptr && !session->put_output(data, size)) {
      openssl->BIO_clear_flags(bio, bio_flags_all_again);
      return 0;
    }
    *written = size;
    return 1;
  }

  static int read(bio_st* bio, char* data, std::size_t size, std::size_t* taken) noexcept {
    TlsSession* session = session_of(bio);
    *taken = session == nullptr ? 0 : session->take_input(data, size);
    if (*taken > 0) return 1;
    openssl->BIO_set_flags(bio, bio_flags_read_again);
    return 0;
  }

  static long control(bio_st* bio, int command, long /*number*/, void* /*pointer*/) noexcept {
    const TlsSession* session = session_of(bio);
    if (command == bio_ctrl_pending && session != nullptr) return static_cast<long>(session->unread());
    return command == bio_ctrl_flush ? 1 : 0;
  }

  // Made by the first call, in any thread; nullptr if memory allocation failed then. Never freed, because a BIO with
  // this method may outlive every session.
  static const bio_method_st* method(const OpenSsl& table) noexcept {
    static const bio_method_st* const made = make_method(table);
    return made;
  }

  static const bio_method_st* make_method(const OpenSsl& table) noexcept {
    bio_method_st* made = table.BIO_meth_new(table.BIO_get_new_index() | bio_type_source_sink, "zloop");
    if (made == nullptr) return nullptr;
    table.BIO_meth_set_write_ex(made, write);
    table.BIO_meth_set_read_ex(made, read);
    table.BIO_meth_set_ctrl(made, control);
    openssl = &table;
    return made;
  }
};

TlsSession::~TlsSession() {
  if (bio_ == nullptr) return;
  openssl_->BIO_set_data(bio_, nullptr);
  openssl_->BIO_free(bio_);
}

bool TlsSession::open(const OpenSsl& openssl, ssl_st* ssl) noexcept {
  assert(bio_ == nullptr);
  const bio_method_st* method = TlsSessionBio::method(openssl);
  bio_st* bio = method == nullptr ? nullptr : openssl.BIO_new(method);
  if (bio == nullptr) return false;
  openssl.BIO_set_data(bio, this);
  openssl.BIO_set_init(bio, 1);
  openssl.BIO_up_ref(bio);
  openssl.SSL_set_bio(ssl, bio, bio);  // takes over one reference, for both directions
  openssl_ = &openssl;
  ssl_ = ssl;
  bio_ = bio;
  return true;
}

void TlsSession::feed(const char* data, std::size_t size) {
  if (input_size_ == 0) {
    input_ = data;
    input_size_ = size;
    return;
  }
  retain();
  const std::size_t consumed = retained_.size() - input_size_;
  if (consumed > input_size_) {
    retained_.erase(retained_.begin(), retained_.begin() + static_cast<std::ptrdiff_t>(consumed));
  }
  retained_.insert(retained_.end(), data, data + size);
  input_size_ += size;
  input_ = retained_.data() + (retained_.size() - input_size_);
}

void TlsSession::retain() {
  if (input_size_ == 0) {
    input_ = nullptr;
    clear_vector(retained_);
  } else if (retained_.empty()) {
    // If assign() throws, the bytes and the connection are lost; what the borrowed memory contains later must not be
    // read.
    const char* bytes = std::exchange(input_, nullptr);
    const std::size_t size = std::exchange(input_size_, 0);
    retained_.assign(bytes, bytes + size);
    input_ = retained_.data();
    input_size_ = size;
  }
}

std::size_t TlsSession::take_input(char* data, std::size_t size) noexcept {
  const std::size_t count = std::min(size, input_size_);
  want_read_ = count == 0;
  if (want_read_) return 0;
  drained_ = false;
  std::memcpy(data, input_, count);
  input_ += count;
  input_size_ -= count;
  if (input_size_ == 0) retained_.clear();
  return count;
}

ssize_t TlsSession::do_handshake() {
  openssl_->ERR_clear_error();  // so that the queue contains only the reason of a failure
  want_read_ = false;
  if (openssl_->SSL_do_handshake(ssl_) == 1) return 1;
  const ssize_t reason = explain_failure();
  return reason == ended ? failed : reason;
}

bool TlsSession::readable() const noexcept { return input_size_ > 0 || has_pending(); }

bool TlsSession::has_pending() const noexcept { return !drained_ && openssl_->SSL_has_pending(ssl_) != 0; }

// A close estimate, so that a buffer of this size wastes little memory. OpenSSL may hold decrypted bytes, or most of a
// record. It may also hold only a record's header, which it does not report: then the input does not begin with a
// header, and all of it counts.
std::size_t TlsSession::readable_max() const noexcept {
  if (has_pending()) {
    return input_size_ + static_cast<std::size_t>(std::max(openssl_->SSL_pending(ssl_), 0)) + record_size;
  }
  std::size_t sum = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(input_);
  for (std::size_t left = input_size_; left >= record_header_size;) {
    if (!begins_record(bytes)) return sum + left;
    const std::size_t size = record_header_size + (std::size_t{bytes[3]} << 8U) + bytes[4];
    if (size > left) break;
    sum += size - std::min(size, record_overhead_min);
    bytes += size;
    left -= size;
  }
  return std::max(sum, std::size_t{1});
}

ssize_t TlsSession::read(char* data, std::size_t size) {
  want_read_ = false;
  std::size_t count = 0;
  const bool done = openssl_->SSL_read_ex(ssl_, data, size, &count) == 1;
  drained_ = done && count < size;
  return done ? static_cast<ssize_t>(count) : explain_failure();
}

ssize_t TlsSession::write(const char* data, std::size_t size) {
  want_read_ = false;
  std::size_t count = 0;
  if (openssl_->SSL_write_ex(ssl_, data, size, &count) == 1) return static_cast<ssize_t>(count);
  const ssize_t reason = explain_failure();
  return reason == ended ? failed : reason;
}

// SSL_get_error() mistakes an error that other code has left in this thread's queue for an error of this call. Checking
// the queue before each call takes longer than all other work here for a short record, so a reported error is verified
// instead: if OpenSSL last found no input, it only wants to read (SSL_ERROR_WANT_READ); and a connection that has
// failed also fails SSL_do_handshake().
ssize_t TlsSession::explain_failure() {
  if (output_lost_) return failed;
  switch (openssl_->SSL_get_error(ssl_, 0)) {
    case ssl_error_want_read:
    case ssl_error_want_write:
      return want_read;
    case ssl_error_zero_return:
      return ended;
    default:
      break;
  }
  if (want_read_) return want_read;
  const bool closed = (openssl_->SSL_get_shutdown(ssl_) & ssl_received_shutdown) != 0;
  return closed && openssl_->SSL_do_handshake(ssl_) == 1 ? ended : failed;
}

void TlsSession::lend(char* memory, std::size_t capacity) noexcept {
  lent_ = memory;
  lent_capacity_ = output_.empty() ? capacity : 0;  // otherwise the output would be out of order
  lent_used_ = 0;
}

std::size_t TlsSession::take_back() noexcept {
  lent_ = nullptr;
  lent_capacity_ = 0;
  return std::exchange(lent_used_, 0);
}

bool TlsSession::put_output(const char* data, std::size_t size) noexcept {
  if (size <= lent_capacity_ - lent_used_) {
    std::memcpy(lent_ + lent_used_, data, size);
    lent_used_ += size;
    return true;
  }
  lent_capacity_ = lent_used_;  // later output must come after this
  try {
    output_.insert(output_.end(), data, data + size);
  } catch (const std::bad_alloc&) {
    output_lost_ = true;
    return false;
  }
  return true;
}

void TlsSession::clear_output() noexcept { clear_vector(output_); }

}  // namespace zloop
