// Two ends of a TLS connection, with the OpenSSL of the machine. The cipher is anonymous, so no certificate is needed.
#pragma once

#include <dlfcn.h>

#include <string>

#include "support/expect.hpp"
#include "zloop/openssl.hpp"
#include "zloop/tls_session.hpp"

namespace zloop::test {

// The functions of OpenSSL that the tests use and the engine does not. Owns nothing.
struct Library {
  static constexpr const char* name = "libssl.so.3";

  // nullptr if the machine has no OpenSSL.
  static const Library* get() {
    static const Library library;
    return library.openssl == nullptr ? nullptr : &library;
  }

  const OpenSsl* openssl = nullptr;
  // NOLINTBEGIN(readability-identifier-naming): OpenSSL's own names
  void* (*SSL_CTX_new)(const ssl_method_st*) = nullptr;
  void (*SSL_CTX_free)(void*) = nullptr;
  int (*SSL_CTX_set_cipher_list)(void*, const char*) = nullptr;
  long (*SSL_CTX_ctrl)(void*, int, long, void*) = nullptr;
  ssl_st* (*SSL_new)(void*) = nullptr;
  void (*SSL_free)(ssl_st*) = nullptr;
  void (*SSL_set_accept_state)(ssl_st*) = nullptr;
  void (*SSL_set_connect_state)(ssl_st*) = nullptr;
  int (*SSL_shutdown)(ssl_st*) = nullptr;
  void (*SSL_set_msg_callback)(ssl_st*, void (*)(int, int, int, const void*, std::size_t, ssl_st*, void*)) = nullptr;
  bio_st* (*BIO_new_file)(const char*, const char*) = nullptr;
  // NOLINTEND(readability-identifier-naming)

 private:
  Library() {
    void* handle = dlopen(name, RTLD_LAZY);  // never closed
    if (handle == nullptr) return;
    find(handle, "SSL_CTX_new", SSL_CTX_new);
    find(handle, "SSL_CTX_free", SSL_CTX_free);
    find(handle, "SSL_CTX_set_cipher_list", SSL_CTX_set_cipher_list);
    find(handle, "SSL_CTX_ctrl", SSL_CTX_ctrl);
    find(handle, "SSL_new", SSL_new);
    find(handle, "SSL_free", SSL_free);
    find(handle, "SSL_set_accept_state", SSL_set_accept_state);
    find(handle, "SSL_set_connect_state", SSL_set_connect_state);
    find(handle, "SSL_shutdown", SSL_shutdown);
    find(handle, "SSL_set_msg_callback", SSL_set_msg_callback);
    find(handle, "BIO_new_file", BIO_new_file);
    openssl = OpenSsl::load(name);
  }

  template <typename Function>
  static void find(void* handle, const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
  }
};

// A context for both ends, with one cipher.
class TlsContext {
 public:
  TlsContext() : pointer_(library_.SSL_CTX_new(library_.openssl->TLS_method())) {
    constexpr int set_max_version = 124;
    constexpr long tls_1_2 = 0x0303;
    expect(library_.SSL_CTX_set_cipher_list(pointer_, "AECDH-AES256-SHA:@SECLEVEL=0") == 1, "the cipher is there");
    expect(library_.SSL_CTX_ctrl(pointer_, set_max_version, tls_1_2, nullptr) == 1, "TLS 1.2 is there");
  }
  ~TlsContext() { library_.SSL_CTX_free(pointer_); }
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  [[nodiscard]] void* get() const { return pointer_; }

 private:
  const Library& library_ = *Library::get();
  void* pointer_;  // owned
};

// One end: an SSL, which is owned as the ssl module would own it, and the session on it.
struct TlsEnd {
  TlsEnd(const TlsContext& context, bool server) : ssl(library.SSL_new(context.get())) {
    expect(session.open(*library.openssl, ssl), "a session opens");
    server ? library.SSL_set_accept_state(ssl) : library.SSL_set_connect_state(ssl);
  }
  ~TlsEnd() { library.SSL_free(ssl); }
  TlsEnd(const TlsEnd&) = delete;
  TlsEnd& operator=(const TlsEnd&) = delete;

  // The bytes to send.
  std::string output() {
    std::string bytes(session.output(), session.output_size());
    session.clear_output();
    return bytes;
  }

  // Receives the output of another end, without reading it.
  void take_from(TlsEnd& other) {
    const std::string flight = other.output();
    session.feed(flight.data(), flight.size());
    session.retain();
  }

  std::string write(const std::string& plain) {
    expect(session.write(plain.data(), plain.size()) == static_cast<ssize_t>(plain.size()), "all is encrypted");
    return output();
  }

  // Reads all bytes that can be read; `last` is the result of the last read().
  std::string read() {
    std::string plain;
    char buffer[20000];
    while ((last = session.read(buffer, sizeof(buffer))) > 0) plain.append(buffer, static_cast<std::size_t>(last));
    return plain;
  }

  // Receives bytes whose memory becomes invalid afterwards, and reads them.
  std::string receive(std::string ciphertext) {
    session.feed(ciphertext.data(), ciphertext.size());
    std::string plain = read();
    session.retain();
    return plain;
  }

  const Library& library = *Library::get();
  ssl_st* ssl;  // owned
  ssize_t last = 0;
  TlsSession session;
};

// A client and a server after their handshake.
struct TlsPair {
  TlsPair() {
    for (int i = 0; i < 4; ++i) {
      handshake(client, server);
      handshake(server, client);
    }
    expect(client.receive(server.write("ready")) == "ready", "the handshake is over");
  }

  static void handshake(TlsEnd& from, TlsEnd& to) {
    from.session.do_handshake();
    to.take_from(from);
  }

  TlsContext context;
  TlsEnd client{context, false};
  TlsEnd server{context, true};
};

}  // namespace zloop::test
