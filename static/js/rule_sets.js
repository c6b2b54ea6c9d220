// The plan's curve: changes across, privilege points up; a click takes the reader to that plan.
(() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let chart = null;

  function draw() {
    const place = document.querySelector("[data-curve]");
    if (!place || !window.echarts) return;
    const data = JSON.parse(document.getElementById(place.dataset.curve).textContent);
    if (chart && chart.getDom() !== place) { chart.dispose(); chart = null; }
    chart ??= echarts.init(place, null, { renderer: "svg" });
    const points = data.x.map((x, index) => ({
      value: [x, data.y[index]],
      symbolSize: index === data.chosen ? 18 : 11,
      itemStyle: { color: color(index === data.chosen ? "--wl-accent" : "--wl-quiet") },
    }));
    chart.setOption({
      animation: false,
      grid: { left: 8, right: 24, top: 32, bottom: 32, containLabel: true },
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      tooltip: {
        trigger: "item", renderMode: "richText", backgroundColor: color("--wl-ink"), borderWidth: 0,
        textStyle: { color: color("--wl-surface") },
        formatter: (one) => `${one.value[0]} changes\n${one.value[1].toLocaleString("en")} privilege points`,
      },
      xAxis: {
        type: "value", minInterval: 1, min: 0, name: "rules and settings", nameLocation: "middle", nameGap: 26,
        nameTextStyle: { color: color("--wl-quiet") }, axisLabel: { color: color("--wl-quiet") },
        axisLine: { lineStyle: { color: color("--wl-line-strong") } }, splitLine: { show: false },
      },
      yAxis: {
        type: "value", min: 0, name: "what else they admit", nameTextStyle: { color: color("--wl-quiet"), align: "left" },
        axisLabel: { color: color("--wl-quiet") }, splitLine: { lineStyle: { color: color("--wl-line") } },
      },
      series: [{ type: "line", step: "end", data: points, lineStyle: { color: color("--wl-line-strong") }, symbol: "circle" }],
    }, true);
    chart.off("click");
    chart.on("click", (one) => {
      const form = document.getElementById("slider-form");
      if (!form || data.sliders[one.dataIndex] === undefined) return;
      form.elements.slider.value = data.sliders[one.dataIndex];
      form.requestSubmit();
    });
    new ResizeObserver(() => chart?.resize()).observe(place);
  }

  const source = document.currentScript.dataset.library;
  addEventListener("load", () => {
    if (!document.querySelector("[data-curve]")) return;
    const library = document.createElement("script");
    library.src = source;
    library.addEventListener("load", draw);
    document.head.append(library);
  });
  document.addEventListener("htmx:afterSettle", draw);
  document.addEventListener("wayleave:theme", draw);
})();
