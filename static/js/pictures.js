// Pictures to take along: a chart or a heat map as SVG or PNG, in the colours it has on the screen.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const style = (element) => getComputedStyle(element);

  // What the eye reads in a cell, line by line.
  function words(cell) {
    const copy = cell.cloneNode(true);
    for (const hidden of copy.querySelectorAll(".visually-hidden")) hidden.remove();
    return [...copy.childNodes].map((one) => one.textContent.replace(/\s+/g, " ").trim()).filter(Boolean);
  }

  function draw(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  // A heat map is a table: each of its cells becomes a field with its words.
  function drawTable(table) {
    const [first, wide, high, head] = [340, 96, 30, 46];
    const rows = [...table.rows];
    const cells = (row) => [...row.cells].filter((cell) => !cell.classList.contains("wf-why"));
    const size = { width: first + wide * (cells(rows[0]).length - 1) + 16, height: head + high * (rows.length - 1) + 16 };
    const font = style(document.body).fontFamily;
    const svg = draw("svg", { ...size, viewBox: `0 0 ${size.width} ${size.height}`, "font-family": font, "font-size": 12 });
    for (const [y, row] of rows.entries()) {
      for (const [x, cell] of cells(row).entries()) {
        const left = 8 + (x ? first + wide * (x - 1) : 0);
        const top = 8 + (y ? head + high * (y - 1) : 0);
        const look = style(cell);
        if (cell.tagName === "TD") svg.append(draw("rect", { x: left + 1, y: top + 1, width: wide - 2, height: high - 2, rx: 3, fill: look.backgroundColor }));
        const middle = x ? { x: left + wide / 2, "text-anchor": "middle" } : { x: left };
        const parts = y ? [words(cell).join(" ")] : words(cell);
        for (const [line, part] of parts.entries()) {
          const most = x ? 15 : 52;
          const text = part.length > most ? `${part.slice(0, most - 1)}…` : part;
          svg.append(draw("text", { ...middle, y: top + (y ? 19 : 16 + 15 * line), fill: look.color }, text));
        }
      }
    }
    return svg;
  }

  // A bar of parts is coloured by the page, and tells them on hover: the picture says them below.
  function drawBar(bar) {
    const [high, line] = [22, 24];
    const parts = [...bar.querySelectorAll("rect")];
    const size = { width: bar.clientWidth, height: high + line * parts.length + 12 };
    const svg = draw("svg", { ...size, viewBox: `0 0 ${size.width} ${size.height}`, "font-family": style(document.body).fontFamily, "font-size": 12 });
    for (const [row, part] of parts.entries()) {
      const fill = style(part).fill;
      const y = high + line * (row + 1);
      svg.append(
        draw("rect", { x: part.getAttribute("x"), width: part.getAttribute("width"), height: high, fill }),
        draw("rect", { x: 2, y: y - 10, width: 12, height: 12, rx: 2, fill }),
        draw("text", { x: 22, y, fill: style(bar).color }, part.querySelector("title").textContent),
      );
    }
    return svg;
  }

  function pictureOf(place) {
    const drawn = place.querySelector("svg");
    const table = place.querySelector("table");
    const made = table ? drawTable(table) : drawn.matches(".rollout") ? drawBar(drawn) : null;
    const svg = made ?? drawn.cloneNode(true);
    const [width, height] = made ? [svg.getAttribute("width"), svg.getAttribute("height")] : [drawn.clientWidth, drawn.clientHeight];
    for (const [key, value] of Object.entries({ xmlns: SVG, width, height })) svg.setAttribute(key, value);
    svg.prepend(draw("title", {}, place.getAttribute("aria-label") ?? drawn.getAttribute("aria-label")), draw("rect", { width, height, fill: style(document.documentElement).getPropertyValue("--wl-surface").trim() }));
    return { text: new XMLSerializer().serializeToString(svg), width: Number(width), height: Number(height) };
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async function keep(place, kind) {
    const { text, width, height } = pictureOf(place);
    const name = `wayleave-${place.dataset.picture}-${new Date().toISOString().slice(0, 10)}.${kind}`;
    if (kind === "svg") return save(new Blob([text], { type: "image/svg+xml" }), name);
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * 2, height * 2];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(blob, name), "image/png");
  }

  function offer() {
    for (const place of document.querySelectorAll("[data-picture]")) {
      if (place.nextElementSibling?.matches(".picture-tools")) continue;
      const tools = document.createElement("p");
      tools.className = "picture-tools";
      tools.append("Picture as ");
      for (const kind of ["svg", "png"]) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "link-button";
        button.textContent = kind.toUpperCase();
        button.addEventListener("click", () => keep(place, kind));
        tools.append(button, " ");
      }
      place.after(tools);
    }
  }
  offer();
  document.addEventListener("htmx:afterSettle", offer);
  document.addEventListener("wayleave:refreshed", offer);
})();
