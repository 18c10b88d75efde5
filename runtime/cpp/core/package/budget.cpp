#include "core/package/budget.h"

#include <algorithm>

#include "core/codes.h"
#include "core/text/numbers.h"

namespace ldm {

namespace {

constexpr std::string_view psnr = "psnr=", ssim = "ssim=";

bool are_digits(std::string_view text) {
    constexpr std::size_t most = 9;
    return !text.empty() && text.size() <= most &&
           std::all_of(text.begin(), text.end(), [](char byte) { return byte >= '0' && byte <= '9'; });
}

// Plain digits, with a point between two of them or without.
bool read_plain(std::string_view text, double& out) {
    std::size_t point = std::min(text.find('.'), text.size());
    bool is_whole = point == text.size();
    return are_digits(text.substr(0, point)) && (is_whole || are_digits(text.substr(point + 1))) &&
           numbers::read(text, out);
}

}  // namespace

bool Budget::holds(const MeasuredError& error) const {
    if (kind == Kind::exact) return false;
    if (kind == Kind::ssim) return error.ssim >= value;
    return !error.psnr.has_value() || *error.psnr >= value;
}

Status read_budget(Scope& scope, std::string_view text, Budget& out) {
    out = Budget();
    if (text == "exact") return Status();
    std::string_view kind = text.substr(0, psnr.size());
    bool is_psnr = kind == psnr;
    double low = is_psnr ? 10.0 : 0.0, high = is_psnr ? 100.0 : 1.0;
    bool is_read = (is_psnr || kind == ssim) && read_plain(text.substr(kind.size()), out.value);
    out.kind = is_psnr ? Budget::Kind::psnr : Budget::Kind::ssim;
    if (is_read && low <= out.value && out.value <= high) return Status();
    return scope.fail(codes::request_invalid, {"budget is ", quoted(text), "; expected exact, psnr=DB from 10 to 100, "
                                               "or ssim=SHARE from 0 to 1, such as psnr=35"});
}

}  // namespace ldm
