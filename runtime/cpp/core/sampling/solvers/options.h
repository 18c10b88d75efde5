// Typed options of solvers, and the text that sets them: `option=value,option=value`.
//
// A solver's options are a plain struct with their defaults. It names them once, those of its bases first:
//
//     struct DeisOptions : ThresholdOptions {
//         int order = 2;
//         void list(OptionList& options) {
//             ThresholdOptions::list(options);
//             options.add("order", order, 1, 3);
//         }
//     };
#ifndef LDM_CORE_SAMPLING_SOLVERS_OPTIONS_H
#define LDM_CORE_SAMPLING_SOLVERS_OPTIONS_H

#include <cstddef>
#include <optional>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"
#include "core/text/numbers.h"

namespace ldm::sampling {

// The change that the loop makes to the predicted image x0 of every row, before the matrix reads it.
//
// clip: to [-limit, limit]. threshold: dynamic thresholding (arXiv:2205.11487): each image is clipped to its own
// quantile `ratio` of |x0|, kept between 1 and limit, and divided by it.
struct Hook {
    enum class Kind { clip, threshold } kind = Kind::clip;
    double limit = 0.0;
    double ratio = 0.0;
};

// One option: where its value is, and what it may be.
class Option {
public:
    std::string_view name;

    // Set it to what a text means; false: it means nothing here.
    bool set(std::string_view text);
    // The shortest text that sets it to its value.
    numbers::Spelt spelt() const;
    // Refuse a text, and say what the option may be.
    Status refuse(Scope& scope, std::string_view sampler, std::string_view text) const;

private:
    friend class OptionList;
    enum class Kind { boolean, integer, real, choice };
    Kind kind_ = Kind::boolean;
    void* value_ = nullptr;  // bool, int or double; of a choice an enum of int
    double low_ = 0.0, high_ = 0.0;
    View<std::string_view> names_;
};

// The options of one solver, in the order in which they are told.
class OptionList {
public:
    void add(std::string_view name, bool& value) { push(name, Option::Kind::boolean, &value, 0.0, 0.0); }
    void add(std::string_view name, int& value, int low, int high) {
        push(name, Option::Kind::integer, &value, low, high);
    }
    void add(std::string_view name, double& value, double low, double high) {
        push(name, Option::Kind::real, &value, low, high);
    }
    template <typename Choice, std::size_t count>
    void add(std::string_view name, Choice& value, const std::string_view (&names)[count]) {
        static_assert(sizeof(Choice) == sizeof(int));
        push(name, Option::Kind::choice, &value, 0.0, 0.0).names_ = {names, count};
    }

    Option* find(std::string_view name);
    Option* begin() { return options_; }
    Option* end() { return options_ + size_; }
    std::size_t size() const { return size_; }

    static constexpr std::size_t most = 16;

private:
    Option& push(std::string_view name, Option::Kind kind, void* value, double low, double high);

    Option options_[most];
    std::size_t size_ = 0;
};

// Set the options that a text ("order=3,sigmas=karras") gives. request.sampler for what is not known or given twice.
Status read_options(Scope& scope, std::string_view sampler, std::string_view text, OptionList& options);

struct NoOptions {
    void list(OptionList&) {}
};

// The option of solvers that clip x0; 0 is off.
struct ClipOptions {
    double clip = 0.0;

    void list(OptionList& options) { options.add("clip", clip, 0.0, 1e6); }
};

// The options of solvers that threshold x0 dynamically; 0 is off.
struct ThresholdOptions {
    double threshold = 0.0;
    double threshold_max = 1.0;

    void list(OptionList& options) {
        options.add("threshold", threshold, 0.0, 1.0);
        options.add("threshold_max", threshold_max, 1.0, 1e6);
    }
};

}  // namespace ldm::sampling

#endif
