// C++17 over ldm_runtime.h, header only: handles that free themselves, and statuses that cannot be overlooked.
//
//     ldm::Context context;
//     auto package = ldm::Package::open(context, "./package");
//     if (!package) return report(context);
//     auto engine = ldm::Engine::open(context, *package);
//     ldm::RunOptions options;
//     options->prompt = "red apple, 3d style";
//     auto run = ldm::Run::create(context, *package, options);
//     if (!engine || !run || engine->draw(context, *run) != LDM_OK) return report(context);
//     if (run->save_png(context, 0, "apple.png") != LDM_OK) return report(context);
//
// Nothing here throws. What can fail returns std::optional, or a status that the compiler warns about when it is
// dropped; the reason is in the context that the call was made with (code and text). The rules of threads and lives are
// those of ldm_runtime.h.
//
// No handle keeps another: each call is given its context, which may be any, and handles may move, as what they hold
// stays where it is. A package must outlive its engines and runs, so declare it before them. What was moved from holds
// nothing: calls with it are LDM_MISUSE.
#ifndef LDM_RUNTIME_HPP
#define LDM_RUNTIME_HPP

#include <optional>
#include <string_view>
#include <utility>

#include "ldm_runtime.h"

namespace ldm {

// Names are ldm::Run and so on; what the linker sees is of this ABI alone, whatever else is in the same program.
inline namespace abi_1 {

namespace detail {

// Owns a handle that `Free` frees.
template <typename T, void (*Free)(T *)>
class Handle {
public:
    explicit Handle(T *handle = nullptr) noexcept : handle_(handle) {}
    ~Handle() { Free(handle_); }
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        T *taken = std::exchange(other.handle_, nullptr);
        Free(std::exchange(handle_, taken));  // now: what it needs may go before `other` does
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;

    T *get() const noexcept { return handle_; }

private:
    T *handle_;
};

// A structure that begins as "not given".
template <typename T, void (*Init)(T *, size_t)>
class Options {
public:
    Options() noexcept { Init(&options_, sizeof options_); }
    T *operator->() noexcept { return &options_; }
    const T *operator->() const noexcept { return &options_; }
    const T *get() const noexcept { return &options_; }

private:
    T options_;
};

}  // namespace detail

using ContextOptions = detail::Options<ldm_context_options, ldm_context_options_init>;
using PackageOptions = detail::Options<ldm_package_options, ldm_package_options_init>;
using EngineOptions = detail::Options<ldm_engine_options, ldm_engine_options_init>;
using RunOptions = detail::Options<ldm_run_options, ldm_run_options_init>;

// For one thread at a time. Empty where no memory is left: `if (!context.get())`.
class Context {
public:
    explicit Context(const ContextOptions &options = {}) noexcept {
        ldm_context *made = nullptr;
        if (ldm_context_create(options.get(), &made) == LDM_OK) handle_ = Handle(made);
    }
    ldm_context *get() const noexcept { return handle_.get(); }
    // Of the last call with it; they last until the next one.
    std::string_view code() const noexcept { return ldm_error_code(get()); }
    std::string_view text() const noexcept { return ldm_error_text(get()); }
    // LDM_BAD_OUTPUT where an image could not be saved to this path.
    [[nodiscard]] ldm_status check_output(const char *path, bool force = false) const noexcept {
        return ldm_check_output(get(), path, force ? 1 : 0);
    }

private:
    using Handle = detail::Handle<ldm_context, ldm_context_free>;
    Handle handle_;
};

// An image whose pixels are freed with it where they are its own, as those that were read from a file; else they are
// somebody else's, such as a run's, or yours: set its fields.
class Image {
public:
    Image() noexcept { ldm_image_init(&image_, sizeof image_); }
    ~Image() { ldm_image_free(&image_); }
    Image(Image &&other) noexcept : image_(other.image_) { ldm_image_init(&other.image_, sizeof other.image_); }
    Image &operator=(Image &&other) noexcept {
        Image taken(std::move(other));
        std::swap(image_, taken.image_);
        return *this;
    }
    Image(const Image &) = delete;
    Image &operator=(const Image &) = delete;

    static std::optional<Image> read_png(const Context &context, const char *path) noexcept {
        Image image;
        if (ldm_image_read_png(context.get(), path, image.get()) != LDM_OK) return std::nullopt;
        return image;
    }
    ldm_image *get() noexcept { return &image_; }
    const ldm_image *get() const noexcept { return &image_; }
    ldm_image *operator->() noexcept { return &image_; }
    const ldm_image *operator->() const noexcept { return &image_; }
    const ldm_image &operator*() const noexcept { return image_; }

private:
    ldm_image image_;
};

// What a run has where an option is not given. `sampler` lasts as long as the package.
struct Defaults : ldm_defaults {
    Defaults() noexcept { ldm_defaults_init(this, sizeof(ldm_defaults)); }
};

// Shared by threads.
class Package {
public:
    static std::optional<Package> open(const Context &context, const char *folder,
                                       const PackageOptions &options = {}) noexcept {
        ldm_package *package = nullptr;
        if (ldm_package_open(context.get(), folder, options.get(), &package) != LDM_OK) return std::nullopt;
        return Package(package);
    }
    // From memory, for a host without files: the manifest, and the tokenizers in its order.
    static std::optional<Package> parse(const Context &context, std::string_view manifest, const ldm_text *tokenizers,
                                        size_t tokenizer_count) noexcept {
        ldm_package *package = nullptr;
        ldm_text text{manifest.data(), manifest.size()};
        ldm_status status = ldm_package_parse(context.get(), text, tokenizers, tokenizer_count, &package);
        if (status != LDM_OK) return std::nullopt;
        return Package(package);
    }
    ldm_package *get() const noexcept { return handle_.get(); }
    std::string_view name() const noexcept { return ldm_package_name(get()); }
    std::string_view identity() const noexcept { return ldm_package_identity(get()); }
    // Wait for the hashes of its files.
    [[nodiscard]] ldm_status confirm(const Context &context) const noexcept {
        return ldm_package_confirm(context.get(), get());
    }
    std::optional<Defaults> defaults(const Context &context) const noexcept {
        Defaults found;
        if (ldm_package_defaults(context.get(), get(), &found) != LDM_OK) return std::nullopt;
        return found;
    }
    // What it is, as lines or as JSON. It lasts until the next call of this with the context.
    std::optional<std::string_view> describe(const Context &context, bool as_json = false) const noexcept {
        const char *text = nullptr;
        if (ldm_package_describe(context.get(), get(), as_json ? 1 : 0, &text) != LDM_OK) return std::nullopt;
        return text;
    }
    // A sampling plan as JSON; sampler null and steps 0 are the package's. It lasts until the next call of this with
    // the context.
    std::optional<std::string_view> plan_json(const Context &context, const char *sampler = nullptr, int32_t steps = 0,
                                              int32_t start = 0) const noexcept {
        const char *json = nullptr;
        if (ldm_plan_json(context.get(), get(), sampler, steps, start, &json) != LDM_OK) return std::nullopt;
        return json;
    }

private:
    explicit Package(ldm_package *package) noexcept : handle_(package) {}
    detail::Handle<ldm_package, ldm_package_free> handle_;
};

// What a run needs next.
struct Task : ldm_task {
    Task() noexcept { ldm_task_init(this, sizeof(ldm_task)); }
};

// float32 (B, C, h, w), of a run.
struct Latents {
    const float *data = nullptr;
    int64_t shape[4] = {0, 0, 0, 0};
};

// Pairs of a name and a value, of a run.
struct Metadata {
    const char *const *keys = nullptr;
    const char *const *values = nullptr;
    size_t count = 0;
};

// For one thread at a time, but for cancel.
class Run {
public:
    static std::optional<Run> create(const Context &context, const Package &package,
                                     const RunOptions &options) noexcept {
        ldm_run *run = nullptr;
        if (ldm_run_create(context.get(), package.get(), options.get(), &run) != LDM_OK) return std::nullopt;
        return Run(run);
    }
    ldm_run *get() const noexcept { return handle_.get(); }
    size_t image_count() const noexcept { return ldm_run_image_count(get()); }
    void cancel() const noexcept { ldm_run_cancel(get()); }
    [[nodiscard]] ldm_status next(const Context &context, Task &task) noexcept {
        return ldm_run_next(context.get(), get(), &task);
    }
    [[nodiscard]] ldm_status give(const Context &context, const ldm_tensor *outputs, size_t count) noexcept {
        return ldm_run_give(context.get(), get(), outputs, count);
    }
    [[nodiscard]] ldm_status preview(const Context &context) noexcept { return ldm_run_preview(context.get(), get()); }
    std::optional<uint64_t> seed(const Context &context, size_t image) const noexcept {
        uint64_t seed = 0;
        if (ldm_run_seed(context.get(), get(), image, &seed) != LDM_OK) return std::nullopt;
        return seed;
    }
    // The pixels last until the run goes on or is freed.
    std::optional<Image> image(const Context &context, size_t index) const noexcept {
        Image image;
        if (ldm_run_image(context.get(), get(), index, image.get()) != LDM_OK) return std::nullopt;
        return image;
    }
    // They last until the run goes on or is freed.
    std::optional<Latents> latents(const Context &context) const noexcept {
        Latents latents;
        if (ldm_run_latents(context.get(), get(), &latents.data, latents.shape) != LDM_OK) return std::nullopt;
        return latents;
    }
    // How an image was made. It lasts until the next call of this with the run.
    std::optional<Metadata> metadata(const Context &context, size_t image) noexcept {
        Metadata found;
        ldm_status status = ldm_run_metadata(context.get(), get(), image, &found.keys, &found.values, &found.count);
        if (status != LDM_OK) return std::nullopt;
        return found;
    }
    [[nodiscard]] ldm_status save_png(const Context &context, size_t image, const char *path,
                                      bool force = false) noexcept {
        return ldm_run_save_png(context.get(), get(), image, path, force ? 1 : 0);
    }

private:
    explicit Run(ldm_run *run) noexcept : handle_(run) {}
    detail::Handle<ldm_run, ldm_run_free> handle_;
};

// Shared by threads; each gives its own context.
class Engine {
public:
    static std::optional<Engine> open(const Context &context, const Package &package,
                                      const EngineOptions &options = {}) noexcept {
        ldm_engine *engine = nullptr;
        if (ldm_engine_open(context.get(), package.get(), options.get(), &engine) != LDM_OK) return std::nullopt;
        return Engine(engine);
    }
    ldm_engine *get() const noexcept { return handle_.get(); }
    // The variant that it draws with, for RunOptions; null: it draws exactly.
    const char *variant() const noexcept { return ldm_engine_variant(get()); }
    [[nodiscard]] ldm_status draw(const Context &context, const Run &run) const noexcept {
        return ldm_engine_draw(context.get(), get(), run.get());
    }
    // What the run's last task asks for.
    [[nodiscard]] ldm_status evaluate(const Context &context, const Run &run) const noexcept {
        return ldm_engine_evaluate(context.get(), get(), run.get());
    }

private:
    explicit Engine(ldm_engine *engine) noexcept : handle_(engine) {}
    detail::Handle<ldm_engine, ldm_engine_free> handle_;
};

// What the comparison of a package with its reference found. The texts last as long as it does.
class Report {
public:
    static std::optional<Report> verify(const Context &context, const char *folder,
                                        const EngineOptions &options = {}) noexcept {
        ldm_report *report = nullptr;
        if (ldm_verify(context.get(), folder, options.get(), &report) != LDM_OK) return std::nullopt;
        return Report(report);
    }
    ldm_report *get() const noexcept { return handle_.get(); }
    bool passed() const noexcept { return ldm_report_passed(get()) != 0; }
    const char *table() const noexcept { return ldm_report_table(get()); }
    const char *json() const noexcept { return ldm_report_json(get()); }
    const char *failure(size_t index) const noexcept { return ldm_report_failure(get(), index); }

private:
    explicit Report(ldm_report *report) noexcept : handle_(report) {}
    detail::Handle<ldm_report, ldm_report_free> handle_;
};

}  // namespace abi_1

}  // namespace ldm

#endif
