// A large file on its way: how much has been sent, how fast, and a way to stop. Without scripts the form goes as ever.
(() => {
  const under = new WeakMap(); // form -> when its sending began, and how far it was told

  const parts = (form) => ({
    box: form.querySelector("[data-upload-box]"),
    bar: form.querySelector("progress"),
    words: form.querySelector("[data-upload-words]"),
    said: form.querySelector("[data-upload-said]"),
  });
  const megabytes = (bytes) => (bytes / 1e6).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const ofUpload = (event) => (event.target instanceof HTMLFormElement && event.target.matches("form[data-upload]") ? event.target : null);

  function end(form, text) {
    const { box, words, said } = parts(form);
    under.delete(form);
    box.dataset.state = "over";
    words.textContent = said.textContent = text;
    form.querySelector("[data-upload-send]")?.focus();
  }

  // A file that is larger than the server takes is refused before it is sent.
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (!input.matches?.("form[data-upload] input[type=file][data-max-bytes]")) return;
    const most = Number(input.dataset.maxBytes);
    const size = input.files[0]?.size ?? 0;
    input.setCustomValidity(size > most ? `This file has ${megabytes(size)} MB; at most ${megabytes(most)} MB can be sent.` : "");
    input.reportValidity();
  });

  document.addEventListener("htmx:beforeSend", (event) => {
    const form = ofUpload(event);
    if (!form) return;
    const { box, bar, words, said } = parts(form);
    under.set(form, { began: performance.now(), told: 0, isSent: false });
    box.hidden = false;
    box.dataset.state = "sending";
    bar.value = 0;
    words.textContent = said.textContent = "The file is being sent.";
  });

  document.addEventListener("htmx:xhr:progress", (event) => {
    const form = ofUpload(event);
    const state = form && under.get(form);
    // The answer is told by the same event, after the file is sent.
    if (!state || state.isSent || !event.detail.lengthComputable) return;
    const { loaded, total } = event.detail;
    const { box, bar, words, said } = parts(form);
    const share = Math.floor((100 * loaded) / total);
    bar.value = share;
    state.isSent = loaded >= total;
    if (state.isSent) {
      box.dataset.state = "sent";
      words.textContent = said.textContent = `${megabytes(total)} MB sent. The server looks at the file.`;
      return;
    }
    const seconds = (performance.now() - state.began) / 1000;
    const rate = loaded / Math.max(seconds, 0.001);
    const left = Math.ceil((total - loaded) / Math.max(rate, 1));
    const rest = seconds < 1 || !loaded ? "" : left < 90 ? `, about ${left} s left` : `, about ${Math.ceil(left / 60)} min left`;
    words.textContent = `${megabytes(loaded)} of ${megabytes(total)} MB sent, ${share} %${rest}.`;
    // Read aloud at each quarter alone.
    const quarter = Math.floor(share / 25);
    if (quarter > state.told) said.textContent = `${share} % sent${rest}.`;
    state.told = Math.max(state.told, quarter);
  });

  document.addEventListener("click", (event) => {
    const form = event.target.closest("[data-upload-stop]")?.form;
    if (form) window.htmx.trigger(form, "htmx:abort");
  });
  document.addEventListener("htmx:sendAbort", (event) => {
    const form = ofUpload(event);
    if (form) end(form, "Cancelled. The server keeps nothing of this file.");
  });
  document.addEventListener("htmx:sendError", (event) => {
    const form = ofUpload(event);
    if (form) end(form, "The file did not arrive, and nothing of it is kept. Send it again.");
  });
  document.addEventListener("htmx:responseError", (event) => {
    const form = ofUpload(event);
    if (form) end(form, `The server did not take the file (error ${event.detail.xhr.status}). Send it again in a moment.`);
  });
  addEventListener("beforeunload", (event) => {
    const sends = [...document.querySelectorAll("form[data-upload]")].some((form) => under.get(form) && !under.get(form).isSent);
    if (sends) event.preventDefault();
  });
})();
