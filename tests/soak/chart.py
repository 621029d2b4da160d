"""A soak's samples as a chart."""


def draw(samples, title, path):
    """Write the chart. Raises ImportError where there is no matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    times = [sample["time"] for sample in samples]
    panels = {
        "memory (MiB)": [sample["memory"] / 2**20 for sample in samples],
        "descriptors": [sample["descriptors"] for sample in samples],
        "threads": [sample["threads"] for sample in samples],
        "children": [sample["children"] for sample in samples],
        "longest lag (ms)": [1000 * sample["lag"] for sample in samples],
    }
    figure, axes = plt.subplots(len(panels), sharex=True, figsize=(10, 2 * len(panels)), layout="constrained")
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        axis.plot(times, values, linewidth=0.8, color="black")
        axis.set_ylabel(name)
        axis.set_ylim(bottom=0)
    axes[0].set_title(title, fontsize=9)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)
