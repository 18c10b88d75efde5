#include "core/noise/philox.h"

#include <cmath>

namespace ldm {

namespace {

// AS 241, routine PPND16: coefficients from the constant term up.
constexpr double a_terms[] = {
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
};
constexpr double b_terms[] = {
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
};
constexpr double c_terms[] = {
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
};
constexpr double d_terms[] = {
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
};
constexpr double e_terms[] = {
    6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
    2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
};
constexpr double f_terms[] = {
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
};

constexpr double ln2 = 0.6931471805599453;
constexpr double sqrt_half = 0.7071067811865476;

double polynomial(const double (&terms)[8], double x) {
    double value = terms[7];
    for (int index = 6; index >= 0; --index) value = value * x + terms[index];
    return value;
}

double logarithm(double x) {
    int exponent = 0;
    double m = std::frexp(x, &exponent);  // in [1/2, 1)
    if (m < sqrt_half) {
        m *= 2.0;
        --exponent;
    }
    double f = (m - 1.0) / (m + 1.0);
    double s = f * f;
    double a = 1.0 / 23.0;
    for (int k = 21; k > 0; k -= 2) a = a * s + 1.0 / k;
    return (2.0 * f) * a + static_cast<double>(exponent) * ln2;
}

}  // namespace

PhiloxWords philox4x32(PhiloxWords counter, std::uint64_t key) {
    std::uint32_t* c = counter.word;
    auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        std::uint64_t p0 = std::uint64_t{c[0]} * 0xD2511F53, p1 = std::uint64_t{c[2]} * 0xCD9E8D57;
        c[0] = static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0;
        c[2] = static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1;
        c[1] = static_cast<std::uint32_t>(p1);
        c[3] = static_cast<std::uint32_t>(p0);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return counter;
}

double inverse_normal(double u) {
    double q = u - 0.5;
    if (std::fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * polynomial(a_terms, r) / polynomial(b_terms, r);
    }
    double r = std::sqrt(-logarithm(q < 0.0 ? u : 1.0 - u));
    double tail = r <= 5.0 ? polynomial(c_terms, r - 1.6) / polynomial(d_terms, r - 1.6)
                           : polynomial(e_terms, r - 5.0) / polynomial(f_terms, r - 5.0);
    return q < 0.0 ? -tail : tail;
}

void philox_normal(std::uint64_t seed, std::uint32_t stream, float* out, std::size_t count) {
    PhiloxWords words{};
    for (std::size_t element = 0; element < count; ++element) {
        if (element % 4 == 0) words = philox4x32({{static_cast<std::uint32_t>(element / 4), 0, stream, 0}}, seed);
        out[element] = static_cast<float>(inverse_normal((words.word[element % 4] + 0.5) * 0x1p-32));
    }
}

}  // namespace ldm
