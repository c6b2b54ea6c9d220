// Charts: each reads its data from a JSON block, follows the theme, and has the same figures in a table beneath it.
(() => {
  const charts = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function trend(data, width, unit = "users") {
    const day = (text) => new Date(`${text}T12:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    const lines = markLines(data, width);
    const series = [["works", data.open, "--wl-open"], ["unknown", data.unknown, "--wl-unknown"], ["blocked", data.blocked, "--wl-blocked"]];
    return {
      animation: false,
      grid: { left: 8, right: 28, top: 40 + 14 * lines.rows, bottom: 4, containLabel: true },
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      aria: { decal: { show: true } },
      legend: { top: 0, left: 0, icon: "roundRect", itemWidth: 14, itemHeight: 10, textStyle: { color: color("--wl-ink") } },
      tooltip: {
        trigger: "axis", renderMode: "richText", axisPointer: { type: "line" },
        backgroundColor: color("--wl-ink"), borderWidth: 0, textStyle: { color: color("--wl-surface") },
        formatter: (points) => [day(points[0].name), ...points.map((one) => `${one.seriesName}: ${one.value.toLocaleString("en")}`)].join("\n"),
      },
      xAxis: {
        type: "category", data: data.days, boundaryGap: false, axisTick: { show: false },
        axisLine: { lineStyle: { color: color("--wl-line-strong") } },
        axisLabel: { color: color("--wl-quiet"), hideOverlap: true, formatter: day },
      },
      yAxis: {
        type: "value", minInterval: 1, name: unit, nameGap: 10, nameTextStyle: { color: color("--wl-quiet"), align: "left" }, axisLabel: { color: color("--wl-quiet") },
        splitLine: { lineStyle: { color: color("--wl-line") } },
      },
      series: series.map(([name, values, tone], index) => ({
        name, type: "line", stack: "users", data: values, symbol: "none", lineStyle: { width: 1 },
        itemStyle: { color: color(tone) }, areaStyle: { opacity: 0.75 },
        markLine: index ? undefined : {
          symbol: "none", silent: true, lineStyle: { color: color("--wl-ink"), type: "dashed", width: 1 },
          label: { color: color("--wl-quiet"), formatter: (one) => one.name, fontSize: 11 },
          data: lines,
        },
      })),
    };
  }

  const unitWidth = 36; // The unit stands above the left end, as far as this.

  // What happened on one day shares a line; near an end its words stay inside the picture, and words that would
  // run into each other stand in rows, of which there are `rows` more than one.
  function markLines({ days, marks }, width) {
    const words = new Map();
    for (const { day, text } of marks) words.set(day, words.has(day) ? `${words.get(day)}, ${text}` : text);
    const ends = [unitWidth];
    const lines = [...words].sort().map(([day, name]) => {
      const place = days.indexOf(day) / Math.max(days.length - 1, 1);
      const align = place > 0.7 ? "right" : place < 0.3 ? "left" : "center";
      const long = 6.5 * name.length;
      const from = place * (width - 80) - { left: 0, center: long / 2, right: long }[align];
      const free = ends.findIndex((end) => end < from);
      const row = free < 0 ? ends.length : free;
      ends[row] = from + long + 8;
      return { name, xAxis: day, label: { align, distance: 5 + 14 * row } };
    });
    return Object.assign(lines, { rows: Math.max(ends.length - 1, 0) });
  }

  // Many series: steps of one hue, the first the strongest, those that stand for the rest grey; patterns, too.
  function stack(data, width) {
    const options = trend({ days: data.days, open: [], unknown: [], blocked: [], marks: [] }, width);
    options.legend.type = "scroll";
    let rest = 0;
    options.series = data.series.map(({ name, values, is_rest }, index) => ({
      name, type: "line", stack: "users", data: values, symbol: "none", lineStyle: { width: 1 },
      itemStyle: { color: color(is_rest ? ["--wl-line-strong", "--wl-line"][rest++ % 2] : `--wl-series-${1 + (index % 6)}`) },
      areaStyle: { opacity: 0.85 },
    }));
    return options;
  }

  function days(data, width) {
    const options = trend({ ...data, open: [], unknown: [], marks: [] }, width, "starts");
    const series = [["refused", data.blocked, "--wl-blocked"], ["would have been", data.audited, "--wl-partly"]];
    options.xAxis.boundaryGap = true;
    options.series = series.map(([name, values, tone]) => ({
      name, type: "bar", stack: "times", data: values, barMaxWidth: 32, itemStyle: { color: color(tone) },
    }));
    return options;
  }

  // Days dragged over become the range of a form.
  function dragRange(place, chart, data) {
    const form = document.getElementById(place.dataset.rangeForm);
    if (!form) return;
    const surface = chart.getZr();
    let from = null;
    let to = null;
    const dayAt = (x) => data.days[Math.min(Math.max(Math.round(chart.convertFromPixel({ xAxisIndex: 0 }, x)), 0), data.days.length - 1)];
    const show = () => {
      const top = 40;
      const shape = { x: Math.min(from, to), y: top, width: Math.abs(to - from), height: chart.convertToPixel({ yAxisIndex: 0 }, 0) - top };
      chart.setOption({ graphic: [{ id: "range", type: "rect", silent: true, z: 100, shape, style: { fill: "rgba(80,120,180,0.2)", stroke: color("--wl-accent") } }] });
    };
    const end = () => {
      if (from === null) return;
      const [left, right] = [Math.min(from, to), Math.max(from, to)];
      from = null;
      if (right - left < 4) return; // a click
      form.elements.from.value = dayAt(left);
      form.elements.to.value = dayAt(right);
      form.requestSubmit();
    };
    surface.on("mousedown", (event) => {
      if (!chart.containPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY])) return;
      from = to = event.offsetX;
      document.addEventListener("mouseup", end, { once: true });
    });
    surface.on("mousemove", (event) => {
      if (from === null) return;
      to = event.offsetX;
      show();
    });
    surface.on("mouseup", end);
  }

  function drawAll() {
    charts.forEach(draw);
  }

  function draw(one) {
    one.width = one.chart.getWidth();
    one.chart.setOption({ trend, stack, days }[one.kind](one.data, one.width), true);
  }

  function find(root) {
    for (const place of root.querySelectorAll("[data-chart]:not([_echarts_instance_])")) {
      const data = JSON.parse(document.getElementById(place.dataset.source).textContent);
      const chart = echarts.init(place, null, { renderer: "svg" });
      const one = { chart, kind: place.dataset.chart, data };
      charts.push(one);
      new ResizeObserver(() => {
        chart.resize();
        if (one.width && chart.getWidth() && chart.getWidth() !== one.width) draw(one); // 0: it is hidden
      }).observe(place);
    }
    for (let index = charts.length - 1; index >= 0; index -= 1) {
      if (!charts[index].chart.getDom().isConnected) charts.splice(index, 1)[0].chart.dispose();
    }
    drawAll();
    for (const { chart, data } of charts) {
      const place = chart.getDom();
      if (!place.dataset.rangeForm || place.dataset.dragged) continue;
      place.dataset.dragged = "yes";
      dragRange(place, chart, data);
    }
  }

  // The library is large: it comes when the page is there to be read, and only if there is something to draw.
  const source = document.currentScript.dataset.library;
  let isAskedFor = false;
  function fetchLibrary() {
    if (isAskedFor || !document.querySelector("[data-chart]")) return;
    isAskedFor = true;
    const library = document.createElement("script");
    library.src = source;
    // Drawn in a task of its own: a click between the two need not wait for both.
    library.addEventListener("load", () => setTimeout(() => find(document)));
    document.head.append(library);
  }
  addEventListener("load", fetchLibrary);
  document.addEventListener("htmx:afterSettle", () => (window.echarts ? find(document) : fetchLibrary()));
  document.addEventListener("wayleave:theme", drawAll);
})();
