// Charts: each reads its data from a JSON block, follows the theme, and has the same figures in a table beneath it.
(() => {
  const charts = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function bars(data) {
    return {
      animation: false,
      grid: { left: 8, right: 16, top: 12, bottom: 4, containLabel: true },
      textStyle: { fontFamily: "inherit" },
      tooltip: {
        trigger: "axis", renderMode: "richText", axisPointer: { type: "none" },
        backgroundColor: color("--wl-ink"), borderWidth: 0, textStyle: { color: color("--wl-surface") },
        formatter: ([point]) => `${point.name}: ${point.value.toLocaleString("en")} ${data.unit}`,
      },
      xAxis: {
        type: "category", data: data.labels.toReversed(), axisTick: { show: false },
        axisLine: { lineStyle: { color: color("--wl-line-strong") } },
        axisLabel: { color: color("--wl-quiet"), hideOverlap: true },
      },
      yAxis: {
        type: "value", minInterval: 1, axisLabel: { color: color("--wl-quiet") },
        splitLine: { lineStyle: { color: color("--wl-line") } },
      },
      series: [{ type: "bar", data: data.values.toReversed(), barMaxWidth: 44, itemStyle: { color: color("--wl-accent"), borderRadius: [3, 3, 0, 0] } }],
    };
  }

  function drawAll() {
    for (const { chart, kind, data } of charts) chart.setOption({ bars }[kind](data), true);
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const data = JSON.parse(document.getElementById(place.dataset.source).textContent);
      const chart = echarts.init(place, null, { renderer: "svg" });
      charts.push({ chart, kind: place.dataset.chart, data });
      new ResizeObserver(() => chart.resize()).observe(place);
    }
    drawAll();
  });
  document.addEventListener("wayleave:theme", drawAll);
})();
