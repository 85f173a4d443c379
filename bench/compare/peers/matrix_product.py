"""The best square matrix product of PyTorch (oneDNN), in 10^9 operations a second."""

from measuring import flags, measure, quiet_torch, report


def main():
    parser = flags(__doc__)
    parser.add_argument("--size", type=int, nargs="*", default=[1024, 2048])
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    arguments = parser.parse_args()
    torch = quiet_torch(arguments.threads)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    best = None
    for size in arguments.size:
        a, b = (torch.randn(size, size).to(kind) for _ in range(2))
        c = torch.empty_like(a)

        @torch.inference_mode()
        def step():
            torch.mm(a, b, out=c)

        rates = measure(step, 1, arguments)
        gflops = 2 * size**3 * rates["tokens_per_s"]["median"] / 1e9
        if best is None or gflops > best["gflops"]:
            best = {"best_size": size, "gflops": gflops, **rates}
    report("torch gemm", torch=torch.__version__, **vars(arguments), **best)


if __name__ == "__main__":
    main()
