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
//     if (run->save_png(0, "apple.png") != LDM_OK) return report(context);
//
// Nothing here throws. What can fail returns std::optional, or a status that the compiler warns about when it is
// dropped; the reason is in the context that the call was made with (code and text). The rules of threads and lives are
// those of ldm_runtime.h.
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
        std::swap(handle_, other.handle_);
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;

    T *get() const noexcept { return handle_; }

private:
    T *handle_;
};

// A structure of options that begins as "not given".
template <typename T, void (*Init)(T *, size_t)>
class Options {
public:
    Options() noexcept { Init(&options_, sizeof options_); }
    T *operator->() noexcept { return &options_; }
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
    std::string_view code() const noexcept { return ldm_error_code(get()); }
    std::string_view text() const noexcept { return ldm_error_text(get()); }

private:
    using Handle = detail::Handle<ldm_context, ldm_context_free>;
    Handle handle_;
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
    ldm_package *get() const noexcept { return handle_.get(); }
    std::string_view name() const noexcept { return ldm_package_name(get()); }
    std::string_view identity() const noexcept { return ldm_package_identity(get()); }

private:
    explicit Package(ldm_package *package) noexcept : handle_(package) {}
    detail::Handle<ldm_package, ldm_package_free> handle_;
};

// What a run needs next.
struct Task : ldm_task {
    Task() noexcept { ldm_task_init(this, sizeof(ldm_task)); }
};

// For one thread at a time, but for cancel.
class Run {
public:
    static std::optional<Run> create(const Context &context, const Package &package,
                                     const RunOptions &options) noexcept {
        ldm_run *run = nullptr;
        if (ldm_run_create(context.get(), package.get(), options.get(), &run) != LDM_OK) return std::nullopt;
        return Run(context.get(), run);
    }
    ldm_run *get() const noexcept { return handle_.get(); }
    size_t image_count() const noexcept { return ldm_run_image_count(get()); }
    void cancel() const noexcept { ldm_run_cancel(get()); }
    [[nodiscard]] ldm_status next(Task &task) noexcept { return ldm_run_next(context_, get(), &task); }
    [[nodiscard]] ldm_status give(const ldm_tensor *outputs, size_t count) noexcept {
        return ldm_run_give(context_, get(), outputs, count);
    }
    [[nodiscard]] ldm_status preview() noexcept { return ldm_run_preview(context_, get()); }
    // The pixels last until the run goes on or is freed.
    std::optional<ldm_image> image(size_t index) const noexcept {
        ldm_image image;
        ldm_image_init(&image, sizeof image);
        if (ldm_run_image(context_, get(), index, &image) != LDM_OK) return std::nullopt;
        return image;
    }
    [[nodiscard]] ldm_status save_png(size_t index, const char *path, bool force = false) noexcept {
        return ldm_run_save_png(context_, get(), index, path, force ? 1 : 0);
    }

private:
    Run(ldm_context *context, ldm_run *run) noexcept : context_(context), handle_(run) {}
    ldm_context *context_;  // that it was made with, whose thread uses it
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
