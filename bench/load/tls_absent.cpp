// Stands in for tls.cpp where OpenSSL's headers are missing.
#include <stdexcept>

#include "channel.hpp"

namespace bench {

namespace {

[[noreturn]] void refuse() { throw std::runtime_error("the load generator was built without OpenSSL's headers"); }

}  // namespace

std::unique_ptr<Transport> make_tls_client(bool /*resume*/) { refuse(); }

std::unique_ptr<Transport> make_tls_server(const std::string& /*certificate*/, const std::string& /*key*/) { refuse(); }

}  // namespace bench
