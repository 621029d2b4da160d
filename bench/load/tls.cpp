// Channels straight on OpenSSL: SSL_set_fd, and the socket's own readiness.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <climits>
#include <memory>
#include <stdexcept>
#include <string>

#include "channel.hpp"

namespace bench {

namespace {

[[noreturn]] void throw_openssl(const char* action) {
  const unsigned long code = ERR_get_error();
  const char* reason = ERR_reason_error_string(code);
  throw std::runtime_error(std::string(action) + ": " + (reason != nullptr ? reason : "the connection was lost"));
}

struct Free {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

class TlsChannel final : public Channel {
 public:
  TlsChannel(Descriptor socket, Owned<SSL> ssl, bool must_resume)
      : Channel(std::move(socket)), ssl_(std::move(ssl)), must_resume_(must_resume) {
    SSL_set_fd(ssl_.get(), fd());
  }

  ssize_t receive(std::span<char> room) override {
    ERR_clear_error();
    return moved(SSL_read(ssl_.get(), room.data(), length(room.size())), "SSL_read");
  }

  ssize_t send(Bytes bytes) override {
    ERR_clear_error();
    const ssize_t count = moved(SSL_write(ssl_.get(), bytes.data(), length(bytes.size())), "SSL_write");
    if (must_resume_ && count > 0 && SSL_session_reused(ssl_.get()) == 0) {
      throw std::runtime_error("the server did not resume the session");
    }
    return count;
  }

  [[nodiscard]] bool holds_back() const override { return true; }

  void say_goodbye() override {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }

 private:
  static int length(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, INT_MAX)); }

  ssize_t moved(int result, const char* action) {
    if (result > 0) return result;
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return would_block;
      case SSL_ERROR_ZERO_RETURN:
        return 0;
      default:
        throw_openssl(action);
    }
  }

  Owned<SSL> ssl_;
  bool must_resume_;
};

Owned<SSL_CTX> make_context(const SSL_METHOD* method) {
  Owned<SSL_CTX> context(SSL_CTX_new(method));
  if (!context) throw_openssl("SSL_CTX_new");
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A peer that leaves without a word is not what is measured here.
  SSL_CTX_set_options(context.get(), SSL_OP_IGNORE_UNEXPECTED_EOF);
  return context;
}

// One version, one group and one cipher: the rows compare loops, and what two ends agree on if they may differs with
// the TLS library and its version; a loop may bring its own. These are the cheapest that every library has, so that
// least of a handshake is the library's.
void offer_one_choice(SSL_CTX* context) {
  if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
      SSL_CTX_set1_groups_list(context, "X25519") != 1) {
    throw_openssl("what the client offers");
  }
}

class TlsClient final : public Transport {
 public:
  explicit TlsClient(bool resume) : resume_(resume), context_(make_context(TLS_client_method())) {
    offer_one_choice(context_.get());
    if (!resume) return;
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_app_data(context_.get(), this);
    SSL_CTX_sess_set_new_cb(context_.get(), keep_first);
  }

  std::unique_ptr<Channel> open(Descriptor socket) override {
    Owned<SSL> ssl(SSL_new(context_.get()));
    if (!ssl) throw_openssl("SSL_new");
    if (session_) {
      // A copy: with TLS 1.3, OpenSSL uses none twice.
      const Owned<SSL_SESSION> copy(SSL_SESSION_dup(session_.get()));
      SSL_set_session(ssl.get(), copy.get());
    }
    SSL_set_connect_state(ssl.get());
    const bool is_first = !session_;
    if (resume_ && is_first && opened_) throw std::runtime_error("the server gave no session to resume");
    opened_ = true;
    return std::make_unique<TlsChannel>(std::move(socket), std::move(ssl), resume_ && !is_first);
  }

 private:
  // OpenSSL hands over a reference if this returns 1.
  static int keep_first(SSL* ssl, SSL_SESSION* session) {
    auto* self = static_cast<TlsClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    if (self->session_) return 0;
    self->session_.reset(session);
    return 1;
  }

  bool resume_;
  bool opened_ = false;
  Owned<SSL_SESSION> session_;
  Owned<SSL_CTX> context_;
};

class TlsServer final : public Transport {
 public:
  TlsServer(const std::string& certificate, const std::string& key) : context_(make_context(TLS_server_method())) {
    if (SSL_CTX_use_certificate_chain_file(context_.get(), certificate.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM) != 1) {
      throw_openssl(certificate.c_str());
    }
  }

  std::unique_ptr<Channel> open(Descriptor socket) override {
    Owned<SSL> ssl(SSL_new(context_.get()));
    if (!ssl) throw_openssl("SSL_new");
    SSL_set_accept_state(ssl.get());
    return std::make_unique<TlsChannel>(std::move(socket), std::move(ssl), false);
  }

 private:
  Owned<SSL_CTX> context_;
};

}  // namespace

std::unique_ptr<Transport> make_tls_client(bool resume) { return std::make_unique<TlsClient>(resume); }

std::unique_ptr<Transport> make_tls_server(const std::string& certificate, const std::string& key) {
  return std::make_unique<TlsServer>(certificate, key);
}

}  // namespace bench
