// One TLS connection with OpenSSL, between received bytes and bytes to send. It has no descriptor and no socket.
//
// It replaces the input and output of an SSL that other code owns. That code keeps the SSL alive while any function of
// this class except the destructor is called. It may run the handshake and the shutdown on the SSL: they read what was
// fed, and write to output(). The SSL may outlive the session; then it reads nothing, and what it writes is dropped.
// Loop thread only.
//
// Functions that run the SSL are not noexcept: OpenSSL calls callbacks of Python, and the thread may end in them (see
// WatcherOps).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "zloop/invariants.hpp"
#include "zloop/openssl.hpp"

namespace zloop {

class TlsSession {
 public:
  // Results of read(), write() and do_handshake() that are not a number of bytes. Only read() returns `ended`.
  static constexpr ssize_t ended = 0;       // the peer has sent its last byte (close_notify)
  static constexpr ssize_t want_read = -1;  // OpenSSL needs more input (SSL_ERROR_WANT_READ)
  static constexpr ssize_t failed = -2;     // the reason is in OpenSSL's error queue

  TlsSession() noexcept = default;
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Call it once. False if memory allocation fails; the SSL is unchanged then.
  bool open(const OpenSsl& openssl, ssl_st* ssl) noexcept;

  // Adds received bytes. Their memory must stay valid until they are read, or until retain(). Throws std::bad_alloc.
  void feed(const char* data, std::size_t size);
  // Copies the unread bytes of the last feed(), whose memory is about to become invalid. Throws std::bad_alloc; the
  // bytes are lost then, and the connection cannot continue.
  void retain();
  // The number of bytes that were fed and that OpenSSL has not read.
  [[nodiscard]] std::size_t unread() const noexcept { return input_size_; }

  // Continues the handshake. 1: it is complete. After `failed`, OpenSSL's error is still in its queue, and a further
  // SSL_do_handshake() returns the same result.
  ssize_t do_handshake();

  // False if read() would return want_read.
  [[nodiscard]] bool readable() const noexcept;
  // An approximate upper limit of the bytes that can be read before more is fed; always positive. Takes time for each
  // record.
  [[nodiscard]] std::size_t readable_max() const noexcept;
  // Decrypts at most one record; `size` must not be 0.
  ssize_t read(char* data, std::size_t size);
  // Encrypts all bytes or none; `size` must not be 0. After `want_read` the next write() must have the same bytes.
  ssize_t write(const char* data, std::size_t size);

  // The size of the memory to lend for a write() of `size` bytes: sufficient for every cipher if the records have full
  // size.
  static constexpr std::size_t ciphertext_size_max(std::size_t size) noexcept {
    return size + (((size / record_size) + 1) * record_overhead_max);
  }
  // Output is written to this memory while there is room, unless earlier output is in output().
  void lend(char* memory, std::size_t capacity) noexcept;
  // Ends lend() and returns the number of bytes written to its memory.
  std::size_t take_back() noexcept;

  // All other output. The session owns it; the caller sends it and then clears it.
  [[nodiscard]] const char* output() const noexcept { return output_.data(); }
  [[nodiscard]] std::size_t output_size() const noexcept { return output_.size(); }
  void clear_output() noexcept;
  // True if memory for some output could not be allocated. The connection must end then, although OpenSSL may only
  // report that it waits: it would have to be called again to repeat that output.
  [[nodiscard]] bool output_lost() const noexcept { return output_lost_; }

 private:
  friend struct TlsSessionBio;

  static constexpr std::size_t record_size = 16384;        // RFC 8446, 5.1
  static constexpr std::size_t record_header_size = 5;     // its last two bytes are the size of the record's content
  static constexpr std::size_t record_overhead_min = 21;   // TLS 1.2 with ChaCha20; only CCM_8 in TLS 1.3 needs less
  static constexpr std::size_t record_overhead_max = 128;  // TLS 1.2 with CBC and SHA-384 needs the most, 5+16+48+16

  std::size_t take_input(char* data, std::size_t size) noexcept;
  bool put_output(const char* data, std::size_t size) noexcept;
  [[nodiscard]] bool has_pending() const noexcept;
  ssize_t explain_failure();

  const OpenSsl* openssl_ = nullptr;  // static
  ssl_st* ssl_ = nullptr;             // borrowed
  bio_st* bio_ = nullptr;             // one reference is owned, the SSL has others
  bool drained_ = false;              // the last read() left nothing in OpenSSL, and OpenSSL has read no input since
  bool want_read_ = false;            // in this call OpenSSL last tried to read input, and there was none

  const char* input_ = nullptr;  // the next unread byte: in retained_, or borrowed from feed()
  std::size_t input_size_ = 0;   // bytes
  std::vector<char> retained_;   // bytes of earlier feed() calls; empty if all were read at once

  char* lent_ = nullptr;           // borrowed from lend() until take_back()
  std::size_t lent_capacity_ = 0;  // bytes
  std::size_t lent_used_ = 0;      // bytes
  std::vector<char> output_;
  bool output_lost_ = false;
  [[no_unique_address, maybe_unused]] LiveCount<LiveClass::tls_session> live_;
};

}  // namespace zloop
