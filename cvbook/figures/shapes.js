export default { render({ model, el }) { cv.mount(el); } };
