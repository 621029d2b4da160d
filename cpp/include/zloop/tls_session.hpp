// One TLS connection over OpenSSL, between bytes just received and bytes to be sent; no descriptor, no socket.
//
// It takes over the input and output of an SSL that belongs to somebody else, who keeps it alive for as long as any
// function of this class but the destructor is called, and who may run the handshake and the shutdown on it: what these
// read is what was fed, what they write is in output(). The SSL may outlive the session; it reads nothing then, and
// what it writes is dropped. Loop thread only.
//
// What runs the SSL is not noexcept: OpenSSL's callbacks are Python's, which may end the thread (see WatcherOps).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "zloop/openssl.hpp"

namespace zloop {

class TlsSession {
 public:
  // What read(), write() and, but for `ended`, do_handshake() return in place of a number of bytes.
  static constexpr ssize_t ended = 0;       // read(): the peer has said that nothing follows
  static constexpr ssize_t want_read = -1;  // nothing goes on before more is fed
  static constexpr ssize_t failed = -2;     // OpenSSL's error queue says why

  TlsSession() noexcept = default;
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Once. False when memory is out: the SSL is as it was.
  bool open(const OpenSsl& openssl, ssl_st* ssl) noexcept;

  // Received bytes, which stay where they are until retain() or until they are read. Throws std::bad_alloc.
  void feed(const char* data, std::size_t size);
  // The memory of the last feed() is about to go: what is unread of it is copied. Throws std::bad_alloc, having dropped
  // it: the connection cannot go on then.
  void retain();
  // Bytes fed that OpenSSL has not taken.
  [[nodiscard]] std::size_t unread() const noexcept { return input_size_; }

  // Goes on with the handshake. 1: it is over. In place of `failed` OpenSSL's error stays as it is in its queue, and so
  // does what SSL_do_handshake() would answer next.
  ssize_t do_handshake();

  // False: read() would be want_read.
  [[nodiscard]] bool readable() const noexcept;
  // At most about this many bytes can be read before more is fed; a positive number. Takes time for each record.
  [[nodiscard]] std::size_t readable_max() const noexcept;
  // Decrypts up to one record; size is not 0.
  ssize_t read(char* data, std::size_t size);
  // Encrypts all or nothing; size is not 0. After `want_read` the next write() has to be of the same bytes.
  ssize_t write(const char* data, std::size_t size);

  // The size of memory to lend for write(): more than enough with every cipher and records of full size.
  static constexpr std::size_t ciphertext_size_max(std::size_t size) noexcept {
    return size + (((size / record_size) + 1) * record_overhead_max);
  }
  // Output goes here, as long as there is room and nothing has gone elsewhere before.
  void lend(char* memory, std::size_t capacity) noexcept;
  // Ends that, and returns how much was filled.
  std::size_t take_back() noexcept;

  // All other output: owned, to be fetched and then cleared.
  [[nodiscard]] const char* output() const noexcept { return output_.data(); }
  [[nodiscard]] std::size_t output_size() const noexcept { return output_.size(); }
  void clear_output() noexcept;
  // There was no memory for some of it, and the connection is to end: OpenSSL would have to be asked once more, and may
  // say that it waits.
  [[nodiscard]] bool output_lost() const noexcept { return output_lost_; }

 private:
  friend struct TlsSessionBio;

  static constexpr std::size_t record_size = 16384;        // RFC 8446, 5.1
  static constexpr std::size_t record_header_size = 5;     // its last two bytes are the size of what follows
  static constexpr std::size_t record_overhead_min = 21;   // TLS 1.2 with ChaCha20; only CCM_8 in TLS 1.3 needs less
  static constexpr std::size_t record_overhead_max = 128;  // TLS 1.2 with CBC and SHA-384 needs the most, 5+16+48+16

  std::size_t take_input(char* data, std::size_t size) noexcept;
  bool put_output(const char* data, std::size_t size) noexcept;
  [[nodiscard]] bool has_pending() const noexcept;
  ssize_t explain_failure();

  const OpenSsl* openssl_ = nullptr;  // static
  ssl_st* ssl_ = nullptr;             // borrowed
  bio_st* bio_ = nullptr;             // one reference is owned, the SSL has others
  bool drained_ = false;              // the last read() left nothing in OpenSSL, which has taken nothing since
  bool want_read_ = false;            // the last thing that OpenSSL did in this call was to ask in vain for input

  const char* input_ = nullptr;  // the next unread byte: in retained_, or borrowed from feed()
  std::size_t input_size_ = 0;   // bytes
  std::vector<char> retained_;   // what was fed earlier; empty if all was read at once

  char* lent_ = nullptr;           // borrowed from lend() until take_back()
  std::size_t lent_capacity_ = 0;  // bytes
  std::size_t lent_used_ = 0;      // bytes
  std::vector<char> output_;
  bool output_lost_ = false;
};

}  // namespace zloop
